/* SPDX-License-Identifier: Apache-2.0 */
/* The one way to the daemon: a line of JSON each way over its control socket. */
#ifndef DBFENCE_TOOLS_CONTROL_H
#define DBFENCE_TOOLS_CONTROL_H

#include <jansson.h>

/* Connected descriptor, or -1 with the reason printed. */
int control_connect(const char *socket_path);

/*
 * Ask {"cmd": @cmd}. CLI_DONE with *out (the caller's to release); CLI_UNREACHABLE, or CLI_NEGATIVE when the daemon
 * refused; then the sentence was printed.
 */
int control_ask(const char *socket_path, const char *cmd, json_t **out);

#endif
