/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What differs between PostgreSQL majors and the kernel side must know: offsets in the server's
 * structures, enum values, argument positions. One table per major from 13 to 18, for 64-bit
 * little-endian machines with 8-byte pointers (x86-64 and aarch64 agree). A release that is not in
 * the table is refused by name.
 */
#ifndef DBFENCE_LOADER_PG_LAYOUT_H
#define DBFENCE_LOADER_PG_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "loader/elf.h"

#define PG_MAJOR_MIN 13
#define PG_MAJOR_MAX 18
#define PG_NONE (-1) /* no such member, argument or value in this major */

struct pg_query_desc_layout {
	int16_t operation;	  /* int: enum CmdType */
	int16_t plannedstmt;	  /* pointer: PlannedStmt */
	int16_t source_text;	  /* pointer: C string */
	int16_t dest;		  /* pointer: DestReceiver, may be NULL */
	int16_t estate;		  /* pointer: EState, NULL before ExecutorStart */
	int16_t already_executed; /* bool */
};

struct pg_estate_layout {
	int16_t processed;	 /* uint64: rows of this ExecutorRun call */
	int16_t total_processed; /* uint64: rows of all its calls; PG_NONE before 16 */
};

struct pg_portal_layout {
	int16_t name;		/* pointer: C string */
	int16_t prep_stmt_name; /* pointer: C string or NULL */
	int16_t source_text;	/* pointer: C string */
	int16_t command_tag;	/* int: enum CommandTag */
};

struct pg_planned_stmt_layout {
	int16_t command_type;	   /* int: enum CmdType */
	int16_t has_modifying_cte; /* bool */
	int16_t utility_stmt;	   /* pointer: Node, NULL unless utility */
	int16_t stmt_location;	   /* int: bytes into the source text, -1 unknown */
	int16_t stmt_len;	   /* int: bytes, 0 to the end */
};

struct pg_port_layout {
	int16_t sock;	     /* int: descriptor */
	int16_t laddr;	     /* struct sockaddr_storage */
	int16_t raddr;	     /* struct sockaddr_storage */
	int16_t remote_host; /* pointers to C strings, each may be NULL */
	int16_t remote_port;
	int16_t database_name;
	int16_t user_name;
	int16_t application_name; /* as of the start-up packet */
	int16_t ssl_in_use;	  /* bool */
};

/* enum CmdType. */
struct pg_cmd_type {
	int8_t select, update, insert, delete_, merge, utility;
};

/* enum CommandDest, in DestReceiver.mydest and as CreateDestReceiver's argument. */
struct pg_command_dest {
	int8_t none, debug, remote, remote_execute, remote_simple, spi, tuplestore, into_rel,
	    copy_out, sql_function, transient_rel, tuple_queue, explain_serialize;
};

/* enum ProcessUtilityContext. */
struct pg_utility_context {
	int8_t toplevel, query, query_nonatomic, subcommand;
};

/* enum RawParseMode; all PG_NONE where raw_parser has no mode argument. */
struct pg_parse_mode {
	int8_t default_, type_name, plpgsql_expr, plpgsql_assign1, plpgsql_assign2, plpgsql_assign3;
};

/* Positions of arguments, counted from 0. */
struct pg_args {
	int8_t raw_parser_mode;
	int8_t utility_pstmt, utility_query_string, utility_read_only_tree, utility_context,
	    utility_params, utility_query_env, utility_dest, utility_qc;
};

struct pg_layout {
	int major;
	struct pg_query_desc_layout query_desc;
	struct pg_estate_layout estate;
	int16_t dest_receiver_mydest; /* int: enum CommandDest */
	struct pg_portal_layout portal;
	struct pg_planned_stmt_layout planned_stmt;
	struct pg_port_layout port;
	struct pg_cmd_type cmd_type;
	struct pg_command_dest command_dest;
	struct pg_utility_context utility_context;
	struct pg_parse_mode parse_mode;
	struct pg_args args;
	uint16_t create_function_tag; /* nodes/nodes.h: T_CreateFunctionStmt; procedures too */
	int8_t state_running; /* enum BackendState, pgstat_report_activity's first argument */
	const char *permission_check; /* the exported function that checks relation permissions */
};

/* The table of @major, NULL when it is not supported. A constant. */
const struct pg_layout *pg_layout_lookup(int major);

/*
 * The version of a server binary, without running it: @text (at least 16 bytes; cut to @cap)
 * becomes for example "15.18" or "18beta1", and *major 15. -ENOENT when the file does not say that
 * it is a PostgreSQL server.
 */
int pg_binary_version(const struct elf_file *elf, int *major, char *text, size_t cap,
		      struct err *err);

#endif
