// SPDX-License-Identifier: Apache-2.0
/* The set as an object: reading a path into one, summing it up, changing its mode, freeing it; and
 * the report. */
#include "policy/set.h"

#include "policy/guarantee.h"
#include "policy/yaml.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REPORT_BYTES (256 * 1024)

void policy_report_init(struct policy_report *report)
{
	*report = (struct policy_report){0};
	buf_init(&report->text, REPORT_BYTES);
}

void policy_report_fini(struct policy_report *report)
{
	buf_fini(&report->text);
}

void policy_set_free(struct policy_set *set)
{
	if (!set)
		return;
	arena_fini(&set->arena);
	free(set);
}

void policy_set_force_mode(struct policy_set *set, enum policy_mode mode)
{
	for (unsigned p = 0; p < set->policy_cnt; p++) {
		set->policies[p].mode = mode;
		for (unsigned r = 0; r < set->policies[p].rule_cnt; r++)
			set->policies[p].rules[r].match.mode = mode;
	}
}

void policy_set_summary(const struct policy_set *set, struct policy_summary *summary)
{
	const struct rule *rule;

	*summary = (struct policy_summary){
	    .policies = set->policy_cnt,
	    .rules = set->rule_cnt,
	    .generation = set->generation,
	};
	for (unsigned p = 0; p < set->policy_cnt; p++) {
		for (unsigned r = 0; r < set->policies[p].rule_cnt; r++) {
			rule = &set->policies[p].rules[r];
			if (rule->match.mode != POLICY_ENFORCE || !rule_blocks(rule))
				continue;
			summary->enforcing_rules++;
			summary->enforces = true;
			summary->fails_closed |= rule->policy->on_failure == POLICY_FAIL_CLOSED;
			summary->replication |= policy_rule_concerns_commands(rule);
			summary->needs_identity |=
			    rule->policy->match.cnt || rule->when.who.cnt || rule->has_unless;
		}
	}
}

/* The file's bytes into *@text, owned by the caller; a negative errno. */
static int read_file(const char *path, char **text, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), err = 0;
	char *data = NULL;
	size_t at = 0;
	struct stat st;
	ssize_t n = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st)) {
		err = -errno;
	} else if (!S_ISREG(st.st_mode)) {
		err = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	} else if (st.st_size > LIMIT_POLICY_FILE_BYTES) {
		err = -EFBIG;
	} else {
		data = malloc(LIMIT_POLICY_FILE_BYTES + 1);
		err = data ? 0 : -ENOMEM;
	}
	/* One byte more than allowed is asked for, so that a file that grows meanwhile is seen to
	 * be too long. */
	while (!err && at <= LIMIT_POLICY_FILE_BYTES) {
		n = read(fd, data + at, LIMIT_POLICY_FILE_BYTES + 1 - at);
		if (n <= 0)
			break;
		at += (size_t)n;
	}
	if (!err && n < 0)
		err = -errno;
	close(fd);
	if (err) {
		free(data);
		return err;
	}
	*text = data;
	*len = at;
	return 0;
}

struct sources {
	struct policy_source *v; /* owned, with names and texts */
	size_t cnt;
};

static void sources_fini(struct sources *sources)
{
	for (size_t i = 0; i < sources->cnt; i++) {
		free((char *)sources->v[i].name);
		free((char *)sources->v[i].yaml);
	}
	free(sources->v);
}

static int sources_add(struct sources *sources, const char *path, struct policy_report *report)
{
	struct policy_source *v = realloc(sources->v, (sources->cnt + 1) * sizeof(*v)), *src;
	char *text = NULL, *tight;
	int err;

	if (!v)
		return -ENOMEM;
	sources->v = v;
	src = &v[sources->cnt];
	*src = (struct policy_source){0};
	err = read_file(path, &text, &src->len);
	if (err == -ENOMEM)
		return err;
	if (err) {
		yaml_finding(report, path, NULL, false, "cannot be read: %s",
			     err == -EFBIG ? "longer than the limit of 1 MiB" : strerror(-err));
		return 0;
	}
	tight = realloc(text, src->len + 1);
	src->yaml = tight ? tight : text;
	src->name = strdup(path);
	sources->cnt++;
	return src->name ? 0 : -ENOMEM;
}

static int is_yaml(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');

	return entry->d_name[0] != '.' && dot && (!strcmp(dot, ".yaml") || !strcmp(dot, ".yml"));
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int read_directory(const char *path, struct sources *sources, struct policy_report *report)
{
	struct dirent **names = NULL;
	char full[4096];
	int err = 0, n = scandir(path, &names, is_yaml, by_bytes);

	if (n < 0) {
		yaml_finding(report, path, NULL, false, "cannot be read: %s", strerror(errno));
		return 0;
	}
	if (!n)
		yaml_finding(report, path, NULL, true,
			     "holds no *.yaml or *.yml file: nothing is enforced or alerted");
	if (n > LIMIT_POLICY_FILES)
		yaml_finding(report, path, NULL, false, "more than %u policy files",
			     (unsigned)LIMIT_POLICY_FILES);
	for (int i = 0; i < n; i++) {
		if (!err && n <= LIMIT_POLICY_FILES) {
			if (snprintf(full, sizeof(full), "%s/%s", path, names[i]->d_name) >=
			    (int)sizeof(full))
				yaml_finding(report, path, NULL, false, "path too long");
			else
				err = sources_add(sources, full, report);
		}
		free(names[i]);
	}
	free(names);
	return err;
}

int policy_set_load_path(const char *path, uint64_t generation, struct policy_set **out,
			 struct policy_report *report)
{
	struct sources sources = {0};
	struct policy_set *set = NULL;
	unsigned before = report->errors;
	struct stat st;
	int err = 0;

	if (stat(path, &st)) {
		yaml_finding(report, path, NULL, false, "cannot be read: %s", strerror(errno));
		return -EINVAL;
	}
	if (S_ISDIR(st.st_mode))
		err = read_directory(path, &sources, report);
	else
		err = sources_add(&sources, path, report);
	if (!err)
		err = policy_set_load(sources.v, sources.cnt, generation, &set, report);
	if (!err && report->errors != before) {
		policy_set_free(set);
		err = -EINVAL;
	}
	if (!err)
		*out = set;
	sources_fini(&sources);
	return err;
}
