// SPDX-License-Identifier: Apache-2.0
/*
 * priv/sandbox: every profile is entered in a forked child; the kernel's view of it from outside, and what it can reach
 * from inside, must be what the profile says. Nearly all of it needs root.
 */
#include "priv_trial.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* --- identity, as the kernel shows it to others --------------------------------------------------------------- */

struct meeting {
	int here[2], go[2]; /* the trial writes one byte to here, and waits for one from go */
};

static int say_and_wait(void *arg)
{
	const struct meeting *m = arg;
	char byte;

	if (write(m->here[1], "h", 1) != 1)
		return 1;
	return read(m->go[0], &byte, 1) == 1 ? 0 : 2;
}

static void status_field(pid_t pid, pid_t tid, const char *field, char *value, size_t cap)
{
	char path[64], line[256];
	FILE *f;

	value[0] = '\0';
	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", (int)pid, (int)tid);
	f = fopen(path, "re");
	if (!f)
		return;
	while (fgets(line, sizeof(line), f)) {
		size_t len = strlen(field);

		if (!strncmp(line, field, len) && line[len] == ':') {
			char *text = line + len + 1 + strspn(line + len + 1, " \t");

			text[strcspn(text, " \t\n")] = '\0'; /* the first of several numbers */
			snprintf(value, cap, "%s", text);
		}
	}
	fclose(f);
}

static void check_status(pid_t pid, pid_t tid, const char *field, const char *want)
{
	char got[128];

	status_field(pid, tid, field, got, sizeof(got));
	CHECK_MSG(!strcmp(got, want), "%s is \"%s\", expected \"%s\"", field, got, want);
}

static void check_confined(pid_t pid, pid_t tid, const struct sandbox_profile *p, uint64_t caps)
{
	char uid[16], set[32];

	snprintf(uid, sizeof(uid), "%u", (unsigned)p->uid);
	snprintf(set, sizeof(set), "%016llx", (unsigned long long)caps);
	check_status(pid, tid, "Uid", uid);
	check_status(pid, tid, "Gid", uid);
	check_status(pid, tid, "Groups", "");
	check_status(pid, tid, "CapInh", "0000000000000000");
	check_status(pid, tid, "CapPrm", set);
	check_status(pid, tid, "CapEff", set);
	check_status(pid, tid, "CapAmb", "0000000000000000");
	check_status(pid, tid, "NoNewPrivs", "1");
	check_status(pid, tid, "Seccomp", "2");
}

/* Start a process that enters @p, with one earlier thread when asked, and waits. Its pid when it is inside. */
static pid_t start_confined(struct sandbox_profile *p, struct meeting *m, bool thread)
{
	char byte;
	pid_t pid;

	if (!CHECK_INT(pipe(m->here), 0) || !CHECK_INT(pipe(m->go), 0))
		return -1;
	pid = fork();
	if (pid == 0) {
		/* With its own end of go it sees no end of file when its starter dies: it waits until told, or killed. */
		int keep[] = { m->go[0], m->go[1], STDERR_FILENO, m->here[1], thread ? thread_go[0] : -1 };
		pthread_t other;
		struct err err;

		alarm(HANG_SECONDS);
		if (setgroups(1, &(gid_t){ 4 })) /* something to lose */
			_exit(EXIT_NOT_ENTERED);
		p->keep_fds = keep;
		p->keep_cnt = 5;
		if ((thread && pthread_create(&other, NULL, thread_uses_socket, NULL)) || sandbox_enter(p, &err))
			_exit(EXIT_NOT_ENTERED);
		_exit(say_and_wait(m));
	}
	close(m->here[1]);
	close(m->go[0]);
	if (CHECK_INT(read(m->here[0], &byte, 1), 1))
		return pid;
	CHECK_INT(ending_code(pid), 0);
	return -1;
}

static void end_confined(pid_t pid, struct meeting *m)
{
	CHECK_INT(write(m->go[1], "g", 1), 1);
	CHECK_INT(ending_code(pid), 0);
	close(m->go[1]);
	close(m->here[0]);
}

/* From /proc: prlimit() on another user's process needs a capability that root in a container may lack. */
static void check_limits(pid_t pid, const struct sandbox_profile *p)
{
	const struct {
		const char *name;
		uint64_t want;
	} limits[] = {
		{ "Max core file size", 0 },
		{ "Max file size", p->limit_fsize },
		{ "Max open files", p->limit_nofile },
		{ "Max processes", 0 },
		{ "Max address space", p->limit_as },
	};
	size_t cnt = sizeof(limits) / sizeof(limits[0]) - sandbox_relaxed(), seen = 0;
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/limits", (int)pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		for (size_t i = 0; i < cnt; i++) {
			size_t len = strlen(limits[i].name);
			unsigned long long soft = 77, hard = 77;

			if (strncmp(line, limits[i].name, len))
				continue;
			seen++;
			CHECK_MSG(sscanf(line + len, "%llu %llu", &soft, &hard) == 2 && soft == limits[i].want &&
					  hard == soft, "%s: %s", p->name, line);
		}
	}
	if (f)
		fclose(f);
	CHECK_INT(seen, cnt);
}

static void test_identity_and_capabilities(void)
{
	if (!need_root())
		return;
	for (size_t i = 0; i < ROLE_CNT; i++) {
		struct sandbox_profile p = sandbox_profile_get(roles[i]);
		struct meeting m;
		pid_t pid = start_confined(&p, &m, false);

		if (pid < 0)
			continue;
		CHECK_INT(p.uid, SANDBOX_UID_FIRST + i);
		check_confined(pid, pid, &p, roles[i] == SANDBOX_DEADMAN ? 1 << 5 : 0);
		check_status(pid, pid, "CapBnd", roles[i] == SANDBOX_DEADMAN ? "0000000000000020" : "0000000000000000");
		check_limits(pid, &p);
		end_confined(pid, &m);
	}
}

static void test_earlier_thread_has_no_power(void)
{
	struct sandbox_profile p = sandbox_profile_get(SANDBOX_WORKER);
	struct meeting m;
	struct dirent *entry;
	unsigned threads = 0;
	char path[64];
	pid_t pid;
	DIR *dir;

	if (!need_root() || !CHECK_INT(pipe(thread_go), 0))
		return;
	pid = start_confined(&p, &m, true);
	if (pid < 0)
		return;
	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		threads++;
		check_confined(pid, (pid_t)strtol(entry->d_name, NULL, 10), &p, 0);
	}
	if (dir)
		closedir(dir);
	CHECK(threads >= 2);
	end_confined(pid, &m);
	close(thread_go[0]);
	close(thread_go[1]);
}

static int nothing(void *arg)
{
	(void)arg;
	return 0;
}

static void test_namespaces(void)
{
	static const struct {
		const char *name, *refused;
	} spaces[] = { { "net", "network namespace" }, { "ipc", "IPC namespace" }, { "mnt", "mount namespace" } };
	struct sandbox_profile p = sandbox_profile_get(SANDBOX_WORKER);
	struct ending said;
	struct meeting m;
	pid_t pid;

	if (!need_root())
		return;
	said = try_in(&p, true, nothing, NULL);
	pid = start_confined(&p, &m, false);
	if (pid < 0)
		return;
	for (size_t i = 0; i < 3; i++) {
		char path[64], ours[64] = "", theirs[64] = "";
		bool same;

		snprintf(path, sizeof(path), "/proc/self/ns/%s", spaces[i].name);
		CHECK(readlink(path, ours, sizeof(ours) - 1) > 0);
		snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, spaces[i].name);
		CHECK(readlink(path, theirs, sizeof(theirs) - 1) > 0);
		same = !strcmp(ours, theirs);
		/* Refused is fine where it is said, and only there. */
		CHECK_MSG(same == (strstr(said.err.text, spaces[i].refused) != NULL), "%s: %s, said: %s", spaces[i].name,
			  same ? "shared" : "own", said.err.text);
	}
	end_confined(pid, &m);
}

/* --- descriptors and files ----------------------------------------------------------------------------------- */

static int only_kept_are_open(void *arg)
{
	const int *kept = arg;

	for (int fd = 3; fd < 200; fd++) {
		bool open = fcntl(fd, F_GETFD) >= 0;

		if (open != (fd == kept[0] || fd == kept[1]))
			return 1;
	}
	return read(STDIN_FILENO, &(char){ 0 }, 1) == 0 ? 0 : 2; /* /dev/null */
}

static void test_descriptors_are_closed(void)
{
	struct sandbox_profile p = sandbox_profile_get(SANDBOX_WORKER);
	int kept[2] = { 150, 40 }, too_many[SANDBOX_KEEP_MAX + 1] = { 0 }, tube[2], input;
	struct err err = { "" };

	if (!need_root())
		return;
	/* A standard input with something to read, which must be gone. */
	if (!CHECK_INT(pipe(tube), 0) || !CHECK_INT(write(tube[1], "secret", 6), 6))
		return;
	input = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	CHECK_INT(dup2(tube[0], STDIN_FILENO), STDIN_FILENO);
	for (int fd = 30; fd < 160; fd += 5)
		CHECK_INT(dup2(STDERR_FILENO, fd), fd);
	p.keep_fds = kept;
	p.keep_cnt = 2;
	CHECK_INT(try_in(&p, true, only_kept_are_open, kept).code, 0);
	for (int fd = 30; fd < 160; fd += 5)
		close(fd);
	if (input < 0 || dup2(input, STDIN_FILENO) < 0)
		close(STDIN_FILENO); /* there was none */
	close(input);
	close(tube[0]);
	close(tube[1]);
	p.keep_fds = too_many;
	p.keep_cnt = SANDBOX_KEEP_MAX + 1;
	CHECK_INT(sandbox_enter(&p, &err), -E2BIG);
}

static int root_is_empty(void *arg)
{
	DIR *dir;
	struct dirent *entry;
	int seen = 0;

	(void)arg;
	if (open("/etc/passwd", O_RDONLY) >= 0 || errno != ENOENT)
		return 1;
	if (open("../../../../etc/passwd", O_RDONLY) >= 0)
		return 2;
	dir = opendir("/");
	while (dir && (entry = readdir(dir)))
		seen += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
	if (seen)
		return 3;
	if (open("/new", O_CREAT | O_WRONLY, 0600) >= 0 || !mkdir("/new", 0700))
		return 4;
	return 0;
}

static void test_empty_file_system(void)
{
	/* The recorder's filter allows paths, so that what stops it here is the file system. */
	if (need_root())
		expect(SANDBOX_RECORDER, true, root_is_empty, NULL, 0, "an empty root");
}

static int recorder_life(void *arg)
{
	int dir = *(int *)arg, fd;

	fd = openat(dir, "segment.new", O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return 1;
	if (posix_fallocate(fd, 0, 4096) || pwrite(fd, "record", 6, 0) != 6 || ftruncate(fd, 6) || fdatasync(fd))
		return 2;
	if (renameat(dir, "segment.new", dir, "segment") || faccessat(dir, "segment", F_OK, 0))
		return 3;
	if (openat(dir, "../../etc/passwd", O_RDONLY) >= 0 || open("/etc/passwd", O_RDONLY) >= 0 ||
	    openat(dir, "link", O_RDONLY) >= 0)
		return 4;
	if (unlinkat(dir, "link", 0) || fsync(dir))
		return 5;
	return 0;
}

static void test_recorder_has_its_directory(void)
{
	struct sandbox_profile p = sandbox_profile_get(SANDBOX_RECORDER);
	char path[] = "/tmp/test-sandbox-XXXXXX";
	struct stat st;
	int dir;

	if (!need_root() || !CHECK(mkdtemp(path) != NULL))
		return;
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK_INT(fchown(dir, p.uid, p.gid), 0);
	CHECK_INT(symlinkat("/etc/passwd", dir, "link"), 0);
	CHECK_INT(fchownat(dir, "link", p.uid, p.gid, AT_SYMLINK_NOFOLLOW), 0);
	p.root_fd = dir;
	CHECK_INT(try_in(&p, true, recorder_life, &dir).code, 0);
	if (CHECK_INT(fstatat(dir, "segment", &st, 0), 0)) {
		CHECK_INT(st.st_size, 6);
		CHECK_INT(st.st_uid, p.uid);
	}
	unlinkat(dir, "segment", 0);
	unlinkat(dir, "link", 0);
	close(dir);
	CHECK_INT(rmdir(path), 0);
}

/* --- the dead-man --------------------------------------------------------------------------------------------- */

static int release_target(void *arg)
{
	int pidfd = (int)syscall(SYS_pidfd_open, *(pid_t *)arg, 0);

	if (pidfd < 0)
		return 1;
	return syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0) ? 2 : 0;
}

static void test_dead_man_signals_others(void)
{
	pid_t target;

	if (!need_root())
		return;
	target = fork();
	if (target == 0) {
		alarm(HANG_SECONDS);
		if (setgroups(0, NULL) || setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
			_exit(EXIT_NOT_ENTERED);
		while (pause() < 0)
			continue;
		_exit(0);
	}
	expect(SANDBOX_DEADMAN, true, release_target, &target, 0, "pidfd_send_signal");
	CHECK_INT(ending_code(target), -SIGTERM);
}

/* --- the parent ------------------------------------------------------------------------------------------------ */

/* Start a process in @p whose parent has ended. Its pid, to be waited for here; 0 when that failed. */
static pid_t start_orphan(struct sandbox_profile *p)
{
	pid_t middle, orphan = 0;
	int said[2];

	if (!CHECK_INT(pipe(said), 0) || !CHECK_INT(prctl(PR_SET_CHILD_SUBREAPER, 1), 0))
		return 0;
	middle = fork();
	if (middle == 0) {
		struct meeting m;

		orphan = start_confined(p, &m, false);
		_exit(write(said[1], &orphan, sizeof(orphan)) == sizeof(orphan) ? 0 : 1);
	}
	CHECK_INT(read(said[0], &orphan, sizeof(orphan)), sizeof(orphan));
	CHECK_INT(ending_code(middle), 0);
	close(said[0]);
	close(said[1]);
	return CHECK(orphan > 0) ? orphan : 0;
}

static void test_dies_with_its_parent(void)
{
	struct sandbox_profile p = sandbox_profile_get(SANDBOX_WORKER);
	pid_t orphan;

	if (!need_root())
		return;
	orphan = start_orphan(&p);
	/* Its alarm would end it with SIGALRM. */
	if (orphan)
		CHECK_INT(ending_code(orphan), -SIGKILL);
	prctl(PR_SET_CHILD_SUBREAPER, 0);
}

static void test_outlives_its_parent(void)
{
	struct sandbox_profile p = sandbox_profile_get(SANDBOX_DEADMAN);
	pid_t orphan;

	if (!need_root())
		return;
	p.outlives_parent = true;
	orphan = start_orphan(&p);
	if (orphan) {
		/* The parent's end comes first: had it been a SIGKILL, that would be what ended it. */
		CHECK_INT(kill(orphan, SIGTERM), 0);
		CHECK_INT(ending_code(orphan), -SIGTERM);
	}
	prctl(PR_SET_CHILD_SUBREAPER, 0);
}

static void test_parent_gone_before(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(sandbox_bind_parent(1 << 30, NULL) == -ESRCH && !sandbox_bind_parent(getppid(), NULL) ? 0 : 1);
	CHECK_INT(ending_code(pid), 0);
}

/* --- misuse ---------------------------------------------------------------------------------------------------- */

static int refused_without_root(void)
{
	struct sandbox_profile p = sandbox_profile_get(SANDBOX_WORKER);
	struct err err = { "" };

	if (geteuid() == 0 && setresuid(65534, 65534, 65534))
		return 1;
	return sandbox_enter(&p, &err) == -EPERM && strstr(err.text, "root") ? 0 : 2;
}

static void test_misuse_is_refused(void)
{
	struct sandbox_profile p = sandbox_profile_get(SANDBOX_ROLE_MAX);
	struct err err = { "" };
	pid_t pid = fork();

	if (pid == 0)
		_exit(refused_without_root());
	CHECK_INT(ending_code(pid), 0);
	CHECK_INT(p.role, SANDBOX_NONE);
	CHECK_INT(sandbox_filter(&p, &err), -EINVAL);
	CHECK_STR(sandbox_role_name(SANDBOX_ROLE_MAX), "none");
	CHECK_STR(sandbox_role_name(SANDBOX_DEADMAN), "dead-man");
	if (geteuid() != 0)
		return;
	p = sandbox_profile_get(SANDBOX_WORKER);
	p.uid = 0;
	CHECK_INT(sandbox_enter(&p, &err), -EINVAL);
}

static const struct test_case cases[] = {
	{ "identity_and_capabilities", test_identity_and_capabilities },
	{ "earlier_thread_has_no_power", test_earlier_thread_has_no_power },
	{ "namespaces", test_namespaces },
	{ "descriptors_are_closed", test_descriptors_are_closed },
	{ "empty_file_system", test_empty_file_system },
	{ "recorder_has_its_directory", test_recorder_has_its_directory },
	{ "dead_man_signals_others", test_dead_man_signals_others },
	{ "dies_with_its_parent", test_dies_with_its_parent },
	{ "outlives_its_parent", test_outlives_its_parent },
	{ "parent_gone_before", test_parent_gone_before },
	{ "misuse_is_refused", test_misuse_is_refused },
};
TEST_MAIN(cases)
