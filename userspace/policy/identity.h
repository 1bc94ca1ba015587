/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who asks, as a policy sees it. Plain data: filled by the connection stage, read by policy/ and audit/.
 * A NULL string or a false *_known means: nobody knows, which is never the same as empty.
 */
#ifndef DBFENCE_POLICY_IDENTITY_H
#define DBFENCE_POLICY_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

struct identity {
	const char *engine;		/* "postgresql" */
	const char *database;
	const char *db_user;
	const char *application_name;	/* asserted by the client */
	const char *transport;		/* "tcp" "tls" "unix" */
	const char *server_address;	/* numeric, or the socket's directory */
	uint16_t server_port;
	const char *client_address;	/* numeric; NULL on a unix socket */
	uint16_t client_port;
	const char *exe;		/* of the client process, when it is on this node */
	const char *comm;
	const char *cgroup;		/* path of the client process in the cgroup v2 tree */
	bool uid_known;
	uint32_t uid;
	uint32_t pid;			/* of the client process; 0 when unknown */
	const char *environment;	/* label from the configuration's server table; NULL when unlabelled */
};

#endif
