// SPDX-License-Identifier: Apache-2.0
/*
 * Runs a fuzz target over stored inputs without libFuzzer: every file named on the command line, or in the
 * directories named there. So each finding stays a regression test on machines without a fuzzer.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned replayed;

static int replay_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data = NULL;
	struct stat st;
	int err = -1;

	if (!f || fstat(fileno(f), &st))
		goto out;
	data = malloc((size_t)st.st_size + 1);
	if (!data || fread(data, 1, (size_t)st.st_size, f) != (size_t)st.st_size)
		goto out;
	LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
	replayed++;
	err = 0;
out:
	if (err)
		perror(path);
	free(data);
	if (f)
		fclose(f);
	return err;
}

static int replay_path(const char *path)
{
	struct dirent **names;
	char full[4096];
	struct stat st;
	int err = 0, n;

	if (stat(path, &st) || !S_ISDIR(st.st_mode))
		return replay_file(path);
	n = scandir(path, &names, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		if (names[i]->d_name[0] != '.') {
			snprintf(full, sizeof(full), "%s/%s", path, names[i]->d_name);
			err |= replay_file(full);
		}
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	return err;
}

int main(int argc, char **argv)
{
	int err = 0;

	for (int i = 1; i < argc; i++)
		err |= replay_path(argv[i]);
	printf("%u passed, %u failed, 0 skipped\n", replayed, err ? 1U : 0U);
	return err ? 1 : 0;
}
