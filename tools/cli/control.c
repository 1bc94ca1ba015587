// SPDX-License-Identifier: Apache-2.0
#include "control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli.h"

#define ANSWER_MAX (4UL << 20)

int control_connect(const char *socket_path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(socket_path) >= sizeof(addr.sun_path)) {
		fprintf(stderr, "dbfence: the socket's path is too long: %s\n", socket_path);
		return -1;
	}
	memcpy(addr.sun_path, socket_path, strlen(socket_path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && !connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return fd;
	fprintf(stderr, "dbfence: cannot reach dbfenced at %s: %s\n", socket_path,
		errno == ENOENT || errno == ECONNREFUSED ? "it does not run, or listens elsewhere "
							   "(--socket PATH, before the subcommand)"
		: errno == EACCES ? "be root, or a member of the group dbfence"
				  : strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

static char *read_answer(int fd)
{
	size_t len = 0, cap = 65536;
	char *text = malloc(cap);
	ssize_t n;

	while (text && (n = read(fd, text + len, cap - 1 - len)) > 0) {
		len += (size_t)n;
		if (len + 1 == cap && cap < ANSWER_MAX) {
			char *more = realloc(text, cap *= 2);

			if (!more)
				break;
			text = more;
		}
	}
	if (text)
		text[len] = '\0';
	return text;
}

int control_ask(const char *socket_path, const char *cmd, json_t **out)
{
	int fd = control_connect(socket_path);
	char request[64], *text;
	json_t *answer;

	if (fd < 0)
		return CLI_UNREACHABLE;
	snprintf(request, sizeof(request), "{\"cmd\":\"%s\"}\n", cmd);
	if (write(fd, request, strlen(request)) < 0)
		fprintf(stderr, "dbfence: %s\n", strerror(errno));
	text = read_answer(fd);
	close(fd);
	answer = text ? json_loads(text, 0, NULL) : NULL;
	free(text);
	if (!answer) {
		fprintf(stderr, "dbfence: dbfenced did not answer\n");
		return CLI_UNREACHABLE;
	}
	if (!json_is_true(json_object_get(answer, "ok"))) {
		fprintf(stderr, "dbfence: %s\n",
			json_string_value(json_object_get(answer, "error")));
		json_decref(answer);
		return CLI_NEGATIVE;
	}
	*out = answer;
	return CLI_DONE;
}
