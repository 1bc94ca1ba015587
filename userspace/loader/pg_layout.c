// SPDX-License-Identifier: Apache-2.0
/*
 * Owns: the per-major tables. Called by the loader, which hands one of them to the kernel side.
 *
 * The source of truth are the cut-down structures below: the members that PostgreSQL's headers
 * declare, in their order and with types of their size, up to the last one that is needed. The
 * compiler computes the offsets. Headers:
 * src/include/{executor/execdesc,nodes/execnodes,nodes/plannodes,utils/portal,libpq/libpq-be,tcop/dest,
 * tcop/utility,nodes/nodes,parser/parser}.h. Members keep PostgreSQL's names, so that they can be
 * compared.
 *
 * 15: the headers of 15.20, compared again with the installed ones by the unit test.
 * 18: the headers of 18.4. 16: libpq-be.h of 16; the rest as 15 with 16's additions.
 * 13, 14, 17: as 15 and 16 with what those releases lack or add.
 *
 * Members of every major were then compared with servers that ran
 * (13.23, 14.23, 15.20, 16.14, 17.10, 18.4 on x86-64): connections with known names, statements
 * with known texts and row counts, and for prepStmtName and ssl_in_use the code of
 * PortalDefineQuery and secure_write. README.md says how. The node tags were read there too, where
 * ProcessUtility's statement is a CREATE FUNCTION or PROCEDURE. tests/e2e/test_majors.py compares what
 * servers of all six releases do with what is recorded.
 */
#include "loader/pg_layout.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(void *) == 8 && sizeof(int) == 4, "the tables are for LP64");

/* executor/execdesc.h: the same in all */

struct pg_query_desc {
	int operation;
	void *plannedstmt;
	void *sourceText;
	void *snapshot;
	void *crosscheck_snapshot;
	void *dest;
	void *params;
	void *queryEnv;
	int instrument_options;
	void *tupDesc;
	void *estate;
	void *planstate;
	bool already_executed;
};

/* nodes/execnodes.h: EState */

struct pg13_estate {
	int type;
	int es_direction;
	void *es_snapshot;
	void *es_crosscheck_snapshot;
	void *es_range_table;
	uint32_t es_range_table_size;
	void *es_relations;
	void *es_rowmarks;
	void *es_plannedstmt;
	void *es_sourceText;
	void *es_junkFilter;
	uint32_t es_output_cid;
	void *es_result_relations;
	int es_num_result_relations;
	void *es_result_relation_info;
	void *es_root_result_relations;
	int es_num_root_result_relations;
	void *es_partition_directory;
	void *es_tuple_routing_result_relations;
	void *es_trig_target_relations;
	void *es_param_list_info;
	void *es_param_exec_vals;
	void *es_queryEnv;
	void *es_query_cxt;
	void *es_tupleTable;
	uint64_t es_processed;
};

/* 14: result relations became an array of pointers. 15 is the same. */
struct pg14_estate {
	int type;
	int es_direction;
	void *es_snapshot;
	void *es_crosscheck_snapshot;
	void *es_range_table;
	uint32_t es_range_table_size;
	void *es_relations;
	void *es_rowmarks;
	void *es_plannedstmt;
	void *es_sourceText;
	void *es_junkFilter;
	uint32_t es_output_cid;
	void *es_result_relations;
	void *es_opened_result_relations;
	void *es_partition_directory;
	void *es_tuple_routing_result_relations;
	void *es_trig_target_relations;
	void *es_param_list_info;
	void *es_param_exec_vals;
	void *es_queryEnv;
	void *es_query_cxt;
	void *es_tupleTable;
	uint64_t es_processed;
};

/* 16: permission infos, and the total over all runs. 17 is the same. */
struct pg16_estate {
	int type;
	int es_direction;
	void *es_snapshot;
	void *es_crosscheck_snapshot;
	void *es_range_table;
	uint32_t es_range_table_size;
	void *es_relations;
	void *es_rowmarks;
	void *es_rteperminfos;
	void *es_plannedstmt;
	void *es_sourceText;
	void *es_junkFilter;
	uint32_t es_output_cid;
	void *es_result_relations;
	void *es_opened_result_relations;
	void *es_partition_directory;
	void *es_tuple_routing_result_relations;
	void *es_trig_target_relations;
	void *es_param_list_info;
	void *es_param_exec_vals;
	void *es_queryEnv;
	void *es_query_cxt;
	void *es_tupleTable;
	uint64_t es_processed;
	uint64_t es_total_processed;
};

/* 18: initial partition pruning. */
struct pg18_estate {
	int type;
	int es_direction;
	void *es_snapshot;
	void *es_crosscheck_snapshot;
	void *es_range_table;
	uint32_t es_range_table_size;
	void *es_relations;
	void *es_rowmarks;
	void *es_rteperminfos;
	void *es_plannedstmt;
	void *es_part_prune_infos;
	void *es_part_prune_states;
	void *es_part_prune_results;
	void *es_unpruned_relids;
	void *es_sourceText;
	void *es_junkFilter;
	uint32_t es_output_cid;
	void *es_result_relations;
	void *es_opened_result_relations;
	void *es_partition_directory;
	void *es_tuple_routing_result_relations;
	void *es_trig_target_relations;
	void *es_param_list_info;
	void *es_param_exec_vals;
	void *es_queryEnv;
	void *es_query_cxt;
	void *es_tupleTable;
	uint64_t es_processed;
	uint64_t es_total_processed;
};

/* tcop/dest.h: DestReceiver, the same in all */

struct pg_dest_receiver {
	void *receiveSlot;
	void *rStartup;
	void *rShutdown;
	void *rDestroy;
	int mydest;
};

/* utils/portal.h: PortalData */

struct pg13_portal {
	void *name;
	void *prepStmtName;
	void *portalContext;
	void *resowner;
	void *cleanup;
	uint32_t createSubid;
	uint32_t activeSubid;
	void *sourceText;
	int commandTag;
};

/* 15: createLevel stands before the text; in 13 and 14 it does not. */
struct pg15_portal {
	void *name;
	void *prepStmtName;
	void *portalContext;
	void *resowner;
	void *cleanup;
	uint32_t createSubid;
	uint32_t activeSubid;
	int createLevel;
	void *sourceText;
	int commandTag;
};

/* nodes/plannodes.h: PlannedStmt */

struct pg13_planned_stmt {
	int type;
	int commandType;
	uint64_t queryId;
	bool hasReturning, hasModifyingCTE, canSetTag, transientPlan, dependsOnRole,
	    parallelModeNeeded;
	int jitFlags;
	void *planTree;
	void *rtable;
	void *resultRelations;
	void *rootResultRelations;
	void *appendRelations;
	void *subplans;
	void *rewindPlanIDs;
	void *rowMarks;
	void *relationOids;
	void *invalItems;
	void *paramExecTypes;
	void *utilityStmt;
	int stmt_location;
	int stmt_len;
};

/* 14: rootResultRelations is gone. 15 is the same. */
struct pg14_planned_stmt {
	int type;
	int commandType;
	uint64_t queryId;
	bool hasReturning, hasModifyingCTE, canSetTag, transientPlan, dependsOnRole,
	    parallelModeNeeded;
	int jitFlags;
	void *planTree;
	void *rtable;
	void *resultRelations;
	void *appendRelations;
	void *subplans;
	void *rewindPlanIDs;
	void *rowMarks;
	void *relationOids;
	void *invalItems;
	void *paramExecTypes;
	void *utilityStmt;
	int stmt_location;
	int stmt_len;
};

/* 16: permInfos. 17 is the same. */
struct pg16_planned_stmt {
	int type;
	int commandType;
	uint64_t queryId;
	bool hasReturning, hasModifyingCTE, canSetTag, transientPlan, dependsOnRole,
	    parallelModeNeeded;
	int jitFlags;
	void *planTree;
	void *rtable;
	void *permInfos;
	void *resultRelations;
	void *appendRelations;
	void *subplans;
	void *rewindPlanIDs;
	void *rowMarks;
	void *relationOids;
	void *invalItems;
	void *paramExecTypes;
	void *utilityStmt;
	int stmt_location;
	int stmt_len;
};

/* 18: planId, partPruneInfos, unprunableRelids. */
struct pg18_planned_stmt {
	int type;
	int commandType;
	int64_t queryId;
	int64_t planId;
	bool hasReturning, hasModifyingCTE, canSetTag, transientPlan, dependsOnRole,
	    parallelModeNeeded;
	int jitFlags;
	void *planTree;
	void *partPruneInfos;
	void *rtable;
	void *unprunableRelids;
	void *permInfos;
	void *resultRelations;
	void *appendRelations;
	void *subplans;
	void *rewindPlanIDs;
	void *rowMarks;
	void *relationOids;
	void *invalItems;
	void *paramExecTypes;
	void *utilityStmt;
	int stmt_location;
	int stmt_len;
};

/* libpq/libpq-be.h: Port */

/* libpq/pqcomm.h: SockAddr. struct sockaddr_storage is 128 bytes, aligned to 8, on Linux. */
struct pg_sock_addr {
	uint64_t addr[16];
	uint32_t salen;
};

struct pg13_port {
	int sock;
	bool noblock;
	uint32_t proto;
	struct pg_sock_addr laddr;
	struct pg_sock_addr raddr;
	void *remote_host;
	void *remote_hostname;
	int remote_hostname_resolv;
	int remote_hostname_errcode;
	void *remote_port;
	int canAcceptConnections;
	void *database_name;
	void *user_name;
	void *cmdline_options;
	void *guc_options;
	void *application_name;
	void *hba;
	int keepalives[8];
	void *gss;
	bool ssl_in_use;
};

/* 14: authn_id. 15 is the same; in 16 it moved out again, and 16 is laid out like 13. */
struct pg14_port {
	int sock;
	bool noblock;
	uint32_t proto;
	struct pg_sock_addr laddr;
	struct pg_sock_addr raddr;
	void *remote_host;
	void *remote_hostname;
	int remote_hostname_resolv;
	int remote_hostname_errcode;
	void *remote_port;
	int canAcceptConnections;
	void *database_name;
	void *user_name;
	void *cmdline_options;
	void *guc_options;
	void *application_name;
	void *hba;
	void *authn_id;
	int keepalives[8];
	void *gss;
	bool ssl_in_use;
};

/* 17: canAcceptConnections is gone. */
struct pg17_port {
	int sock;
	bool noblock;
	uint32_t proto;
	struct pg_sock_addr laddr;
	struct pg_sock_addr raddr;
	void *remote_host;
	void *remote_hostname;
	int remote_hostname_resolv;
	int remote_hostname_errcode;
	void *remote_port;
	void *database_name;
	void *user_name;
	void *cmdline_options;
	void *guc_options;
	void *application_name;
	void *hba;
	int keepalives[8];
	void *gss;
	bool ssl_in_use;
};

/* 18: local_host, SCRAM pass-through keys. */
struct pg18_port {
	int sock;
	bool noblock;
	uint32_t proto;
	struct pg_sock_addr laddr;
	struct pg_sock_addr raddr;
	void *remote_host;
	void *remote_hostname;
	int remote_hostname_resolv;
	int remote_hostname_errcode;
	void *remote_port;
	char local_host[64];
	void *database_name;
	void *user_name;
	void *cmdline_options;
	void *guc_options;
	void *application_name;
	void *hba;
	int keepalives[8];
	uint8_t scram_ClientKey[32];
	uint8_t scram_ServerKey[32];
	bool has_scram_keys;
	void *gss;
	bool ssl_in_use;
};

/* Every offset fits the tables' type. */
_Static_assert(sizeof(struct pg18_port) < INT16_MAX, "offsets are int16_t");

/* the tables */

#define QUERY_DESC                                                                                 \
	{                                                                                          \
		.operation = offsetof(struct pg_query_desc, operation),                            \
		.plannedstmt = offsetof(struct pg_query_desc, plannedstmt),                        \
		.source_text = offsetof(struct pg_query_desc, sourceText),                         \
		.dest = offsetof(struct pg_query_desc, dest),                                      \
		.estate = offsetof(struct pg_query_desc, estate),                                  \
		.already_executed = offsetof(struct pg_query_desc, already_executed),              \
	}

#define ESTATE(type, total)                                                                        \
	{                                                                                          \
		.processed = offsetof(type, es_processed), .total_processed = total                \
	}

#define PORTAL(type)                                                                               \
	{                                                                                          \
		.name = offsetof(type, name), .prep_stmt_name = offsetof(type, prepStmtName),      \
		.source_text = offsetof(type, sourceText),                                         \
		.command_tag = offsetof(type, commandTag),                                         \
	}

#define PLANNED_STMT(type)                                                                         \
	{                                                                                          \
		.command_type = offsetof(type, commandType),                                       \
		.has_modifying_cte = offsetof(type, hasModifyingCTE),                              \
		.utility_stmt = offsetof(type, utilityStmt),                                       \
		.stmt_location = offsetof(type, stmt_location),                                    \
		.stmt_len = offsetof(type, stmt_len),                                              \
	}

#define PORT(type)                                                                                 \
	{                                                                                          \
		.sock = offsetof(type, sock), .laddr = offsetof(type, laddr),                      \
		.raddr = offsetof(type, raddr), .remote_host = offsetof(type, remote_host),        \
		.remote_port = offsetof(type, remote_port),                                        \
		.database_name = offsetof(type, database_name),                                    \
		.user_name = offsetof(type, user_name),                                            \
		.application_name = offsetof(type, application_name),                              \
		.ssl_in_use = offsetof(type, ssl_in_use),                                          \
	}

/* nodes/nodes.h: MERGE came with 15, in the middle. */
#define CMD_TYPE_13                                                                                \
	{                                                                                          \
		.select = 1, .update = 2, .insert = 3, .delete_ = 4, .merge = PG_NONE,             \
		.utility = 5                                                                       \
	}
#define CMD_TYPE_15                                                                                \
	{                                                                                          \
		.select = 1, .update = 2, .insert = 3, .delete_ = 4, .merge = 5, .utility = 6      \
	}

#define COMMAND_DEST(serialize)                                                                    \
	{                                                                                          \
		.none = 0, .debug = 1, .remote = 2, .remote_execute = 3, .remote_simple = 4,       \
		.spi = 5, .tuplestore = 6, .into_rel = 7, .copy_out = 8, .sql_function = 9,        \
		.transient_rel = 10, .tuple_queue = 11, .explain_serialize = serialize             \
	}

#define UTILITY_CONTEXT                                                                            \
	{                                                                                          \
		.toplevel = 0, .query = 1, .query_nonatomic = 2, .subcommand = 3                   \
	}

#define PARSE_MODE_13                                                                              \
	{                                                                                          \
		.default_ = PG_NONE, .type_name = PG_NONE, .plpgsql_expr = PG_NONE,                \
		.plpgsql_assign1 = PG_NONE, .plpgsql_assign2 = PG_NONE, .plpgsql_assign3 = PG_NONE \
	}
#define PARSE_MODE_14                                                                              \
	{                                                                                          \
		.default_ = 0, .type_name = 1, .plpgsql_expr = 2, .plpgsql_assign1 = 3,            \
		.plpgsql_assign2 = 4, .plpgsql_assign3 = 5                                         \
	}

/* 14: raw_parser got its mode, ProcessUtility its readOnlyTree. */
#define ARGS_13                                                                                    \
	{                                                                                          \
		.raw_parser_mode = PG_NONE, .utility_pstmt = 0, .utility_query_string = 1,         \
		.utility_read_only_tree = PG_NONE, .utility_context = 2, .utility_params = 3,      \
		.utility_query_env = 4, .utility_dest = 5, .utility_qc = 6                         \
	}
#define ARGS_14                                                                                    \
	{                                                                                          \
		.raw_parser_mode = 1, .utility_pstmt = 0, .utility_query_string = 1,               \
		.utility_read_only_tree = 2, .utility_context = 3, .utility_params = 4,            \
		.utility_query_env = 5, .utility_dest = 6, .utility_qc = 7                         \
	}

static const struct pg_layout layouts[] = {
    {
	.major = 13,
	.query_desc = QUERY_DESC,
	.estate = ESTATE(struct pg13_estate, PG_NONE),
	.dest_receiver_mydest = offsetof(struct pg_dest_receiver, mydest),
	.portal = PORTAL(struct pg13_portal),
	.planned_stmt = PLANNED_STMT(struct pg13_planned_stmt),
	.port = PORT(struct pg13_port),
	.cmd_type = CMD_TYPE_13,
	.command_dest = COMMAND_DEST(PG_NONE),
	.utility_context = UTILITY_CONTEXT,
	.parse_mode = PARSE_MODE_13,
	.args = ARGS_13,
	.create_function_tag = 254,
	.state_running = 2,
	.permission_check = "ExecCheckRTPerms",
    },
    {
	.major = 14,
	.query_desc = QUERY_DESC,
	.estate = ESTATE(struct pg14_estate, PG_NONE),
	.dest_receiver_mydest = offsetof(struct pg_dest_receiver, mydest),
	.portal = PORTAL(struct pg13_portal),
	.planned_stmt = PLANNED_STMT(struct pg14_planned_stmt),
	.port = PORT(struct pg14_port),
	.cmd_type = CMD_TYPE_13,
	.command_dest = COMMAND_DEST(PG_NONE),
	.utility_context = UTILITY_CONTEXT,
	.parse_mode = PARSE_MODE_14,
	.args = ARGS_14,
	.create_function_tag = 261,
	.state_running = 2,
	.permission_check = "ExecCheckRTPerms",
    },
    {
	.major = 15,
	.query_desc = QUERY_DESC,
	.estate = ESTATE(struct pg14_estate, PG_NONE),
	.dest_receiver_mydest = offsetof(struct pg_dest_receiver, mydest),
	.portal = PORTAL(struct pg15_portal),
	.planned_stmt = PLANNED_STMT(struct pg14_planned_stmt),
	.port = PORT(struct pg14_port),
	.cmd_type = CMD_TYPE_15,
	.command_dest = COMMAND_DEST(PG_NONE),
	.utility_context = UTILITY_CONTEXT,
	.parse_mode = PARSE_MODE_14,
	.args = ARGS_14,
	.create_function_tag = 262,
	.state_running = 2,
	.permission_check = "ExecCheckRTPerms",
    },
    {
	.major = 16,
	.query_desc = QUERY_DESC,
	.estate = ESTATE(struct pg16_estate, offsetof(struct pg16_estate, es_total_processed)),
	.dest_receiver_mydest = offsetof(struct pg_dest_receiver, mydest),
	.portal = PORTAL(struct pg15_portal),
	.planned_stmt = PLANNED_STMT(struct pg16_planned_stmt),
	.port = PORT(struct pg13_port),
	.cmd_type = CMD_TYPE_15,
	.command_dest = COMMAND_DEST(PG_NONE),
	.utility_context = UTILITY_CONTEXT,
	.parse_mode = PARSE_MODE_14,
	.args = ARGS_14,
	.create_function_tag = 189,
	.state_running = 2,
	.permission_check = "ExecCheckPermissions",
    },
    {
	.major = 17,
	.query_desc = QUERY_DESC,
	.estate = ESTATE(struct pg16_estate, offsetof(struct pg16_estate, es_total_processed)),
	.dest_receiver_mydest = offsetof(struct pg_dest_receiver, mydest),
	.portal = PORTAL(struct pg15_portal),
	.planned_stmt = PLANNED_STMT(struct pg16_planned_stmt),
	.port = PORT(struct pg17_port),
	.cmd_type = CMD_TYPE_15,
	.command_dest = COMMAND_DEST(12),
	.utility_context = UTILITY_CONTEXT,
	.parse_mode = PARSE_MODE_14,
	.args = ARGS_14,
	.create_function_tag = 205,
	.state_running = 2,
	.permission_check = "ExecCheckPermissions",
    },
    {
	.major = 18,
	.query_desc = QUERY_DESC,
	.estate = ESTATE(struct pg18_estate, offsetof(struct pg18_estate, es_total_processed)),
	.dest_receiver_mydest = offsetof(struct pg_dest_receiver, mydest),
	.portal = PORTAL(struct pg15_portal),
	.planned_stmt = PLANNED_STMT(struct pg18_planned_stmt),
	.port = PORT(struct pg18_port),
	.cmd_type = CMD_TYPE_15,
	.command_dest = COMMAND_DEST(12),
	.utility_context = UTILITY_CONTEXT,
	.parse_mode = PARSE_MODE_14,
	.args = ARGS_14,
	.create_function_tag = 208,
	.state_running = 3,
	.permission_check = "ExecCheckPermissions",
    },
};

const struct pg_layout *pg_layout_lookup(int major)
{
	for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++)
		if (layouts[i].major == major)
			return &layouts[i];
	return NULL;
}

#define VERSION_TRIES 16 /* a real server has one or two such texts */

/* version of a binary */

/* "15.18 (Debian …)\n", "18beta1\n": the first word, when it begins with a plausible major. */
static int parse_version(const char *s, int *major, char *text, size_t cap)
{
	size_t len = strcspn(s, " \n,");
	char *end;
	long n;

	if (!isdigit((unsigned char)s[0]) || len >= 64)
		return -ENOENT;
	n = strtol(s, &end, 10);
	if (n < 7 || n > 99 ||
	    (*end != '.' && *end != 'b' && *end != 'r' && *end != 'd' && end != s + len))
		return -ENOENT;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)s[i]) && s[i] != '.' && s[i] != '-' && s[i] != '+')
			return -ENOENT;
	if (len >= cap)
		len = cap - 1;
	memcpy(text, s, len);
	text[len] = '\0';
	*major = (int)n;
	return 0;
}

int pg_binary_version(const struct elf_file *elf, int *major, char *text, size_t cap,
		      struct err *err)
{
	/* What `postgres --version` prints. Client programs hold the same with their own name
	 * before it. */
	static const char needle[] = "postgres (PostgreSQL) ";
	const size_t needle_len = sizeof(needle) - 1;
	uint64_t at = 0;
	char found[80];

	if (cap < 16)
		return err_set(err, -EINVAL, "the buffer for a version is too small");
	for (unsigned tries = 0; tries < VERSION_TRIES; tries++, at += needle_len) {
		int n, ret = elf_search(elf, needle, needle_len, at, &at);

		if (ret == -ENOENT)
			break;
		if (ret)
			return err_set(err, ret, "the program cannot be read: %s", strerror(-ret));
		n = elf_read_some(elf, at + needle_len, found, sizeof(found) - 1);
		if (n <= 0)
			continue;
		found[n] = '\0';
		if (!parse_version(found, major, text, cap))
			return 0;
	}
	return err_set(err, -ENOENT, "the program does not say which PostgreSQL version it is");
}
