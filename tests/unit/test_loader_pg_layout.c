// SPDX-License-Identifier: Apache-2.0
/*
 * The per-major tables: 15 against the installed server headers, through the compiler; all against
 * what was read out of running servers of each release; and the version of a binary.
 */
#include "../lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/buf.h"
#include "loader/pg_layout.h"

#define HEADERS "/usr/include/postgresql/15/server"

static void test_lookup(void)
{
	CHECK(pg_layout_lookup(12) == NULL);
	CHECK(pg_layout_lookup(19) == NULL);
	CHECK(pg_layout_lookup(0) == NULL);
	for (int major = PG_MAJOR_MIN; major <= PG_MAJOR_MAX; major++) {
		const struct pg_layout *l = pg_layout_lookup(major);

		if (!CHECK_MSG(l != NULL, "no table for %d", major))
			continue;
		CHECK_INT(l->major, major);
		CHECK_INT(l->port.sock, 0);
	}
}

/*
 * Read with gdb and with uprobe fetch arguments in servers of these releases, x86-64: the members
 * held the connection's own names, the text sent, and the rows counted.
 */
struct observed {
	int major;
	int16_t database_name, application_name, ssl_in_use, es_processed, es_total_processed,
	    portal_source_text, utility_stmt;
	int8_t cmd_utility, state_running;
	uint16_t create_function_tag;
};

static const struct observed observed[] = {
    {13, 328, 360, 416, 192, PG_NONE, 48, 120, 5, 2, 254},
    {14, 328, 360, 424, 168, PG_NONE, 48, 112, 5, 2, 261},
    {15, 328, 360, 424, 168, PG_NONE, 56, 112, 6, 2, 262},
    {16, 328, 360, 416, 176, 184, 56, 120, 6, 2, 189},
    {17, 320, 352, 408, 176, 184, 56, 120, 6, 2, 205},
    {18, 384, 416, 544, 208, 216, 56, 144, 6, 3, 208},
};

static void test_observed(void)
{
	for (size_t i = 0; i < sizeof(observed) / sizeof(observed[0]); i++) {
		const struct observed *o = &observed[i];
		const struct pg_layout *l = pg_layout_lookup(o->major);

		CHECK_INT(l->port.database_name, o->database_name);
		CHECK_INT(l->port.user_name, o->database_name + 8);
		CHECK_INT(l->port.application_name, o->application_name);
		CHECK_INT(l->port.ssl_in_use, o->ssl_in_use);
		CHECK_INT(l->port.laddr, 16);
		CHECK_INT(l->port.raddr, 152);
		CHECK_INT(l->port.remote_host, 288);
		CHECK_INT(l->port.remote_port, 312);
		CHECK_INT(l->estate.processed, o->es_processed);
		CHECK_INT(l->estate.total_processed, o->es_total_processed);
		CHECK_INT(l->portal.source_text, o->portal_source_text);
		CHECK_INT(l->portal.command_tag, o->portal_source_text + 8);
		CHECK_INT(l->planned_stmt.utility_stmt, o->utility_stmt);
		CHECK_INT(l->planned_stmt.stmt_location, o->utility_stmt + 8);
		CHECK_INT(l->planned_stmt.stmt_len, o->utility_stmt + 12);
		CHECK_INT(l->cmd_type.utility, o->cmd_utility);
		CHECK_INT(l->state_running, o->state_running);
		CHECK_INT(l->create_function_tag, o->create_function_tag);
		CHECK_INT(l->query_desc.source_text, 16);
		CHECK_INT(l->query_desc.dest, 40);
		CHECK_INT(l->query_desc.estate, 80);
		CHECK_INT(l->query_desc.already_executed, 96);
		CHECK_INT(l->dest_receiver_mydest, 32);
	}
}

static void put_offset(struct buf *b, const char *type, const char *member, int offset)
{
	buf_printf(b, "_Static_assert(offsetof(%s, %s) == %d, \"%s.%s\");\n", type, member, offset,
		   type, member);
}

static void put_value(struct buf *b, const char *name, int value)
{
	buf_printf(b, "_Static_assert(%s == %d, \"%s\");\n", name, value, name);
}

static void put_offsets(struct buf *b, const struct pg_layout *l)
{
	put_offset(b, "QueryDesc", "operation", l->query_desc.operation);
	put_offset(b, "QueryDesc", "plannedstmt", l->query_desc.plannedstmt);
	put_offset(b, "QueryDesc", "sourceText", l->query_desc.source_text);
	put_offset(b, "QueryDesc", "dest", l->query_desc.dest);
	put_offset(b, "QueryDesc", "estate", l->query_desc.estate);
	put_offset(b, "QueryDesc", "already_executed", l->query_desc.already_executed);
	put_offset(b, "EState", "es_processed", l->estate.processed);
	put_offset(b, "struct _DestReceiver", "mydest", l->dest_receiver_mydest);
	put_offset(b, "PortalData", "name", l->portal.name);
	put_offset(b, "PortalData", "prepStmtName", l->portal.prep_stmt_name);
	put_offset(b, "PortalData", "sourceText", l->portal.source_text);
	put_offset(b, "PortalData", "commandTag", l->portal.command_tag);
	put_offset(b, "PlannedStmt", "commandType", l->planned_stmt.command_type);
	put_offset(b, "PlannedStmt", "hasModifyingCTE", l->planned_stmt.has_modifying_cte);
	put_offset(b, "PlannedStmt", "utilityStmt", l->planned_stmt.utility_stmt);
	put_offset(b, "PlannedStmt", "stmt_location", l->planned_stmt.stmt_location);
	put_offset(b, "PlannedStmt", "stmt_len", l->planned_stmt.stmt_len);
	put_offset(b, "Port", "sock", l->port.sock);
	put_offset(b, "Port", "laddr.addr", l->port.laddr);
	put_offset(b, "Port", "raddr.addr", l->port.raddr);
	put_offset(b, "Port", "remote_host", l->port.remote_host);
	put_offset(b, "Port", "remote_port", l->port.remote_port);
	put_offset(b, "Port", "database_name", l->port.database_name);
	put_offset(b, "Port", "user_name", l->port.user_name);
	put_offset(b, "Port", "application_name", l->port.application_name);
	put_offset(b, "Port", "ssl_in_use", l->port.ssl_in_use);
}

static void put_values(struct buf *b, const struct pg_layout *l)
{
	put_value(b, "T_CreateFunctionStmt", l->create_function_tag);
	put_value(b, "CMD_SELECT", l->cmd_type.select);
	put_value(b, "CMD_UPDATE", l->cmd_type.update);
	put_value(b, "CMD_INSERT", l->cmd_type.insert);
	put_value(b, "CMD_DELETE", l->cmd_type.delete_);
	put_value(b, "CMD_MERGE", l->cmd_type.merge);
	put_value(b, "CMD_UTILITY", l->cmd_type.utility);
	put_value(b, "DestNone", l->command_dest.none);
	put_value(b, "DestDebug", l->command_dest.debug);
	put_value(b, "DestRemote", l->command_dest.remote);
	put_value(b, "DestRemoteExecute", l->command_dest.remote_execute);
	put_value(b, "DestRemoteSimple", l->command_dest.remote_simple);
	put_value(b, "DestSPI", l->command_dest.spi);
	put_value(b, "DestTuplestore", l->command_dest.tuplestore);
	put_value(b, "DestIntoRel", l->command_dest.into_rel);
	put_value(b, "DestCopyOut", l->command_dest.copy_out);
	put_value(b, "DestSQLFunction", l->command_dest.sql_function);
	put_value(b, "DestTransientRel", l->command_dest.transient_rel);
	put_value(b, "DestTupleQueue", l->command_dest.tuple_queue);
	put_value(b, "PROCESS_UTILITY_TOPLEVEL", l->utility_context.toplevel);
	put_value(b, "PROCESS_UTILITY_QUERY", l->utility_context.query);
	put_value(b, "PROCESS_UTILITY_QUERY_NONATOMIC", l->utility_context.query_nonatomic);
	put_value(b, "PROCESS_UTILITY_SUBCOMMAND", l->utility_context.subcommand);
	put_value(b, "RAW_PARSE_DEFAULT", l->parse_mode.default_);
	put_value(b, "RAW_PARSE_TYPE_NAME", l->parse_mode.type_name);
	put_value(b, "RAW_PARSE_PLPGSQL_EXPR", l->parse_mode.plpgsql_expr);
	put_value(b, "RAW_PARSE_PLPGSQL_ASSIGN1", l->parse_mode.plpgsql_assign1);
	put_value(b, "RAW_PARSE_PLPGSQL_ASSIGN2", l->parse_mode.plpgsql_assign2);
	put_value(b, "RAW_PARSE_PLPGSQL_ASSIGN3", l->parse_mode.plpgsql_assign3);
	put_value(b, "STATE_RUNNING", l->state_running);
}

static bool write_file(const char *dir, const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	if (!f)
		return false;
	fputs(text, f);
	return !fclose(f);
}

/* Runs the compiler for its opinion only. Its exit status; 127 when there is none. */
static int compile(const char *dir, const char *shims)
{
	char source[256];
	int status = -1;
	pid_t pid;

	snprintf(source, sizeof(source), "%s/layout.c", dir);
	pid = fork();
	if (!pid) {
		execlp("cc", "cc", "-std=gnu11", "-w", "-fsyntax-only", "-I" HEADERS, "-idirafter",
		       shims, source, (char *)NULL);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

/* Where the libraries that the server was built with have no headers here: only pointers to these
 * types are used. */
static const char gssapi_shim[] =
    "typedef struct { unsigned long length; void *value; } gss_buffer_desc;\n"
    "typedef void *gss_cred_id_t, *gss_ctx_id_t, *gss_name_t;\n";
static const char openssl_shim[] = "typedef struct ssl_st SSL; typedef struct x509_st X509;\n"
				   "typedef struct ssl_ctx_st SSL_CTX;\n";

static const char preamble[] = "#include \"postgres.h\"\n#include <stddef.h>\n#include "
			       "\"executor/execdesc.h\"\n#include \"libpq/libpq-be.h\"\n"
			       "#include \"parser/parser.h\"\n#include \"tcop/dest.h\"\n#include "
			       "\"tcop/utility.h\"\n#include \"utils/portal.h\"\n"
			       "#include \"utils/backend_status.h\"\n"
			       "_Static_assert(__builtin_types_compatible_p(__typeof__(raw_parser),"
			       " List *(const char *, RawParseMode)), "
			       "\"raw_parser\");\n"
			       "_Static_assert(__builtin_types_compatible_p(__typeof__("
			       "ProcessUtility), void(PlannedStmt *, const char *, bool, "
			       "ProcessUtilityContext, ParamListInfo, QueryEnvironment *, "
			       "DestReceiver *, QueryCompletion *)), "
			       "\"ProcessUtility\");\n";

static void test_headers(void)
{
	const struct pg_layout *l = pg_layout_lookup(15);
	char dir[] = "/tmp/dbfence-layout-XXXXXX", sub[64];
	static const char *const files[] = {"layout.c", "gssapi/gssapi.h", "openssl/ssl.h",
					    "openssl/err.h"};
	char path[256];
	struct buf b;
	int status;

	if (access(HEADERS "/postgres.h", R_OK)) {
		test_skip("the headers of PostgreSQL 15 are not installed (package "
			  "postgresql-server-dev-15)");
		return;
	}
	if (!CHECK(mkdtemp(dir) != NULL))
		return;
	snprintf(sub, sizeof(sub), "%s/gssapi", dir);
	CHECK(!mkdir(sub, 0700));
	snprintf(sub, sizeof(sub), "%s/openssl", dir);
	CHECK(!mkdir(sub, 0700));
	buf_init(&b, 64 * 1024);
	buf_puts(&b, preamble);
	put_offsets(&b, l);
	put_values(&b, l);
	CHECK_INT(l->args.raw_parser_mode, 1);
	CHECK_INT(l->args.utility_read_only_tree, 2);
	CHECK_INT(l->args.utility_context, 3);
	CHECK_INT(l->args.utility_dest, 6);
	CHECK_INT(l->args.utility_qc, 7);
	CHECK(!buf_err(&b) && write_file(dir, files[0], buf_str(&b)) &&
	      write_file(dir, files[1], gssapi_shim) && write_file(dir, files[2], openssl_shim) &&
	      write_file(dir, files[3], ""));
	status = compile(dir, dir);
	if (status == 127)
		test_skip("there is no C compiler");
	else
		CHECK_MSG(
		    !status,
		    "the table for 15 and the headers disagree: see the compiler's messages above");
	/* The check itself must be able to fail. */
	put_offset(&b, "Port", "database_name", l->port.database_name + 8);
	if (status != 127) {
		CHECK(write_file(dir, files[0], buf_str(&b)));
		CHECK_INT(freopen("/dev/null", "w", stderr) != NULL, 1);
		CHECK(compile(dir, dir) != 0);
	}
	buf_fini(&b);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
		unlink(path);
	}
	rmdir(sub);
	snprintf(sub, sizeof(sub), "%s/gssapi", dir);
	rmdir(sub);
	rmdir(dir);
}

/* version */

static int version_of_text(const char *text, size_t len, int *major, char *out, size_t cap)
{
	static const unsigned char head[64 + 56] = {
	    0x7f,
	    'E',
	    'L',
	    'F',
	    2,
	    1,
	    1,
	    [16] = 2,
	    [18] = 62,
	    [20] = 1,
	    [32] = 64,
	    [54] = 56,
	    [56] = 1,
	    /* program header: PT_LOAD, readable, at offset 120 and address 0x1000 */
	    [64] = 1,
	    [68] = 4,
	    [72] = 120,
	    [81] = 0x10,
	};
	unsigned char copy[sizeof(head)];
	uint64_t size = len;
	struct elf_file *elf;
	struct err err = {0};
	int fd = memfd_create("version", MFD_CLOEXEC), ret;

	memcpy(copy, head, sizeof(head));
	memcpy(copy + 64 + 32, &size, sizeof(size));
	memcpy(copy + 64 + 40, &size, sizeof(size));
	CHECK(write(fd, copy, sizeof(copy)) == sizeof(copy) &&
	      write(fd, text, len) == (ssize_t)len);
	if (!CHECK_MSG(!elf_open_fd(fd, &elf, &err), "%s", err.text)) {
		close(fd);
		return -ENOEXEC;
	}
	ret = pg_binary_version(elf, major, out, cap, NULL);
	elf_close(elf);
	close(fd);
	return ret;
}

static void check_version(const char *text, int want_major, const char *want)
{
	char got[32] = "";
	int major = 0;

	CHECK_MSG(!version_of_text(text, strlen(text) + 1, &major, got, sizeof(got)),
		  "nothing found in \"%s\"", text);
	CHECK_INT(major, want_major);
	CHECK_STR(got, want);
}

static void test_version(void)
{
	char big[3 * 64 * 1024], got[16];
	int major = 0;

	check_version("postgres (PostgreSQL) 15.18\n", 15, "15.18");
	check_version("x postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n", 15, "15.20");
	check_version("postgres (PostgreSQL) 18beta1\n", 18, "18beta1");
	check_version("postgres (PostgreSQL) 19devel\n", 19, "19devel");
	check_version("postgres (PostgreSQL) 9.6.24\n", 9, "9.6.24");
	check_version("postgres (PostgreSQL) %s postgres (PostgreSQL) 16.1\n", 16, "16.1");
	CHECK_INT(version_of_text("psql (PostgreSQL) 15.18\n", 25, &major, got, sizeof(got)),
		  -ENOENT);
	CHECK_INT(version_of_text("postgres (PostgreSQL) 1500\n", 28, &major, got, sizeof(got)),
		  -ENOENT);
	CHECK_INT(version_of_text("postgres (PostgreSQL) ", 22, &major, got, sizeof(got)), -ENOENT);
	CHECK(!version_of_text("postgres (PostgreSQL) 15.18.12.12.12.12.12\n", 44, &major, got,
			       sizeof(got)));
	CHECK_INT(strlen(got), 15);
	/* Cut by the border of two reads. */
	memset(big, 'x', sizeof(big));
	memcpy(big + 64 * 1024 - 10, "postgres (PostgreSQL) 17.4\n", 27);
	CHECK(!version_of_text(big, sizeof(big), &major, got, sizeof(got)));
	CHECK_STR(got, "17.4");
}

static void test_server(void)
{
	int fd = open("/usr/lib/postgresql/15/bin/postgres", O_RDONLY | O_CLOEXEC), major = 0;
	struct elf_file *elf = NULL;
	char text[64] = "";
	struct err err;

	if (fd < 0) {
		test_skip("PostgreSQL 15 is not installed");
		return;
	}
	if (CHECK_MSG(!elf_open_fd(fd, &elf, &err), "%s", err.text)) {
		CHECK_MSG(!pg_binary_version(elf, &major, text, sizeof(text), &err), "%s",
			  err.text);
		CHECK_INT(major, 15);
		CHECK_MSG(!strncmp(text, "15.", 3) && !strchr(text, ' '), "version \"%s\"", text);
	}
	elf_close(elf);
	close(fd);
}

static const struct test_case cases[] = {
    {"lookup", test_lookup},   {"observed", test_observed}, {"headers", test_headers},
    {"version", test_version}, {"server", test_server},
};

TEST_MAIN(cases)
