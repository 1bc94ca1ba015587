/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every limit of the user-space side, in one place. Reaching one of them is counted
 * (core/counters.h), never silent. Kernel-side limits stand in include/dbfence/abi/.
 */
#ifndef DBFENCE_CORE_LIMITS_H
#define DBFENCE_CORE_LIMITS_H

#define LIMIT_SQL_PARSE_BYTES (64 * 1024) /* longer texts are not parsed: unknown */
#define LIMIT_SQL_OPERATOR_RUN 64	  /* consecutive operator characters */
#define LIMIT_SQL_COMMENT_NESTING 32
#define LIMIT_SQL_CHAIN_DEPTH 5000 /* terms of one left-deep chain */
#define LIMIT_SQL_STATEMENTS 1024  /* statements in one text */
#define LIMIT_SQL_OBJECTS 512	   /* objects of one statement */
#define LIMIT_SQL_COLUMNS 512	   /* columns of one object */
#define LIMIT_SQL_CACHE_ENTRIES 8192
#define LIMIT_SQL_PARSE_STACK (64UL << 20) /* bytes of stack of the parser's thread */

#define LIMIT_POLICY_FILE_BYTES (1024 * 1024)
#define LIMIT_POLICY_FILES 1024
#define LIMIT_POLICY_RULES 4096
#define LIMIT_POLICY_LIST 1024	/* entries of one matcher's list */
#define LIMIT_POLICY_MATCHES 16 /* matches named in one decision */

#define LIMIT_RECORD_BYTES (256 * 1024) /* one packed audit record */
#define LIMIT_SESSIONS 16384

/*
 * What sessions keep until their statements end. Each may have its minimum whatever the others keep, so that one
 * cannot take another's; all of it together fits in the worker's address space several times.
 */
#define LIMIT_SESSION_TEXT_MIN (8 * 1024)
#define LIMIT_SESSION_TEXT_BYTES (8 * 1024 * 1024)
#define LIMIT_TEXT_BYTES (96 * 1024 * 1024)
#define LIMIT_SESSION_STATEMENTS_MIN 8
#define LIMIT_SESSION_STATEMENTS 16384
#define LIMIT_STATEMENTS (128 * 1024)

#define LIMIT_STATEMENT_BYTES (1024 * 1024) /* of one text that is kept, wherever it was seen */

/*
 * What connections that are followed on the wire keep: texts of prepared statements and of requests that are not answered,
 * names, requests. A minimum each, as above.
 */
#define LIMIT_WIRE_TEXT_MIN (8 * 1024)
#define LIMIT_WIRE_TEXT (8 * 1024 * 1024)
#define LIMIT_WIRE_TEXT_TOTAL (96 * 1024 * 1024)
#define LIMIT_WIRE_OPS_MIN 64
#define LIMIT_WIRE_OPS 65536
#define LIMIT_WIRE_OPS_TOTAL (256 * 1024)
#define LIMIT_WIRE_NAMES_MIN 64
#define LIMIT_WIRE_NAMES 16384
#define LIMIT_WIRE_NAMES_TOTAL (128 * 1024)
#define LIMIT_SOCKET_SCAN 4096 /* descriptors of one process */

#define LIMIT_NAMESPACES 1024 /* network namespaces whose devices are kept */
#define LIMIT_DEVICES 4096    /* of one namespace */

#endif
