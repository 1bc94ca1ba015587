#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The cases of one kernel, run as root inside the guest (or on any scratch machine) against a running PostgreSQL.
# Says "PLAN N", then "CASE name ok|FAIL|SKIP [reason]" N times. Exit status 1 when a case failed.
#
# smoke.conf says where PostgreSQL's programs and log and ours are; nothing here waits without a limit.
set -u
. /smoke.conf

state=/run/smoke/state
policies=/run/smoke/policies
log=/run/smoke/dbfenced.log
ctl=/run/smoke/control.sock
failed=0
daemon=

ok() {
	echo "CASE $1 ok"
}

fail() { # CASE REASON; the reason on one line
	failed=1
	echo "CASE $1 FAIL $(echo "$2" | tr '\n' ' ' | cut -c1-600)"
}

skip() {
	echo "CASE $1 SKIP $2"
}

sql() {
	"$PGBIN/psql" -X -q -At -h /run/postgresql -U postgres -d postgres -v VERBOSITY=verbose -c "$1" 2>&1
}

# Run a command until it succeeds, at most so many seconds.
within() {
	end=$(($(date +%s) + $1))
	shift
	until "$@"; do
		[ "$(date +%s)" -lt $end ] || return 1
		sleep 0.2
	done
}

server_answers() {
	[ "$(sql 'select 1')" = 1 ]
}

daemon_ready() {
	grep -q 'ready' "$log" || ! kill -0 "$daemon" 2>/dev/null
}

# The last journal record whose text holds $1 and which matches the extended expressions that follow.
record() {
	wanted=$1
	shift
	"$DBFENCE" audit cat --json --state-dir "$state" 2>/dev/null | grep '"kind": *"statement"' |
		grep -F "$wanted" | tail -n 1 >/run/smoke/record
	[ -s /run/smoke/record ] || return 1
	for expression in "$@"; do
		grep -Eq "$expression" /run/smoke/record || return 1
	done
}

# Records are written when a statement has ended, so a look may come too early.
expect_record() { # CASE TEXT EXPRESSION...
	name=$1
	shift
	if within 20 record "$@"; then
		ok "$name"
	else
		fail "$name" "no record of '$1' with $2 ${3:-}: $(cat /run/smoke/record)"
	fi
}

case_postgres() {
	if within 60 server_answers; then
		ok postgres
	else
		fail postgres "$(sql 'select 1') $(tail -n 5 "$PGLOG")"
	fi
}

case_unit() { # what the sandbox promises, on this kernel
	for test in /tests/test_*; do
		[ -x "$test" ] || { skip unit "no unit test was built"; return; }
		out=$("$test" 2>&1) || { fail unit "$test: $out"; return; }
		echo "$test: $(echo "$out" | tail -n 1)"
	done
	ok unit
}

# The daemon with the options that are given, ready.
daemon_starts() {
	: >"$log"
	"$DBFENCED" --foreground --policy-dir "$policies" --state-dir "$state" --socket "$ctl" "$@" 2>"$log" &
	daemon=$!
	within 180 daemon_ready && kill -0 "$daemon" 2>/dev/null
}

rig() { # ORDER; its answer goes to the log
	echo "$1" >&7
	within 20 grep -q "^ok ${1%% *}\$" /run/smoke/rig
}

# A held statement on loopback: what the other end got of it, and what was sent back.
wire_statement() { # VERDICT TABLE
	rig "verdict $1 1000 smoke"
	sleep 7 | timeout 15 nc -l -p 5999 >/run/smoke/got &
	sleep 1
	{ printf 'Q\000\000\000\037DROP TABLE %s -- padding\000' "$2"; sleep 4; } |
		timeout 15 nc 127.0.0.1 5999 >/run/smoke/answer
	sleep 3
	tr -d '\000' </run/smoke/got >/run/smoke/got.text
	tr -d '\000' </run/smoke/answer >/run/smoke/answer.text
}

rig_started() {
	grep -q '^ok ready$' /run/smoke/rig || ! kill -0 "$rig" 2>/dev/null
}

case_gate() { # held, then allowed, changed, or the connection ended; nothing of the daemon takes part
	[ -x /tests/wire_rig ] || { skip gate "wire_rig was not built"; return; }
	mkfifo /run/smoke/orders
	/tests/wire_rig /tests/wire_gate.bpf.o /sys/fs/cgroup port=5999 </run/smoke/orders >/run/smoke/rig 2>&1 &
	rig=$!
	exec 7>/run/smoke/orders
	if ! within 120 rig_started || ! kill -0 "$rig" || ! rig 'scan 0'; then
		fail gate "the rig did not start: $(tail -n 12 /run/smoke/rig)"
		exec 7>&-
		return
	fi
	wire_statement allow aaaa
	allowed=$(cat /run/smoke/got.text)
	wire_statement deny bbbb
	denied=$(cat /run/smoke/got.text)
	wire_statement kill cccc
	killed=$(cat /run/smoke/got.text)
	reason=$(cat /run/smoke/answer.text)
	rig stats
	exec 7>&-
	case "$allowed/$denied/$killed/$reason" in
	*"DROP TABLE aaaa"*/*"blocked_by_policy_smoke"*/"/E"*"blocked by policy smoke"*) ok gate ;;
	*) fail gate "allowed: $allowed denied: $denied killed: $killed reason: $reason $(tail -n 8 /run/smoke/rig)" ;;
	esac
}

start_daemon() {
	mkdir -p "$policies" "$state"
	cat >"$policies/smoke.yaml" <<'YAML'
apiVersion: dbfence.dev/v1
kind: Policy
metadata:
  name: smoke
spec:
  mode: enforce
  guarantee: prevent
  on_failure: open
  match:
    engine: [postgresql]
  rules:
    - name: no-destructive-ddl
      when:
        effects: [schema_destroy]
      action: deny
      message: not here
YAML
	# Emulation is some thirty times slower than a processor: a verdict needs longer than the default hold, and
	# the verifier takes a minute for what it does in two seconds.
	daemon_starts --mode enforce --hold-ms 3000
}

case_observe() {
	got=$(sql 'select 42 as kernels_observe')
	[ "$got" = 42 ] || { fail observe "the client got: $got"; return; }
	expect_record observe kernels_observe '"outcome": *"executed"' '"rows": *"?1"?[,}]'
}

case_reject() {
	got=$(sql 'drop table kernels_t')
	case $got in
	*57014*) ;;
	*) fail reject "the client got: $got"; return ;;
	esac
	got=$(sql 'select count(*) from kernels_t')
	[ "$got" = 1 ] || { fail reject "the table did not survive: $got"; return; }
	expect_record reject 'drop table kernels_t' '"outcome": *"prevented"'
}

case_hold() { # the screen sees its word, the parser sees a literal
	got=$(sql "select 'drop table' as kernels_hold")
	[ "$got" = 'drop table' ] || { fail hold "the client got: $got"; return; }
	expect_record hold kernels_hold '"outcome": *"executed"' '"held_us": *"?[1-9]'
}

case_sandbox() { # of the real worker
	for status in /proc/[0-9]*/status; do
		grep -q '^Name:.dbfence-worker$' "$status" 2>/dev/null || continue
		if grep -q '^CapEff:.0000000000000000$' "$status" && grep -q '^Seccomp:.2$' "$status" &&
			grep -q '^NoNewPrivs:.1$' "$status" && ! grep -q '^Uid:.0' "$status"; then
			ok sandbox
		else
			fail sandbox "$(grep -E '^(Uid|CapEff|Seccomp|NoNewPrivs):' "$status")"
		fi
		return
	done
	fail sandbox "no process is named dbfence-worker"
}

case_stop() {
	kill -TERM "$daemon"
	if ! within 20 eval '! kill -0 "$daemon" 2>/dev/null'; then
		fail stop "dbfenced still runs 20 s after SIGTERM"
	elif ! server_answers; then
		fail stop "PostgreSQL does not answer after dbfenced has ended"
	else
		ok stop
	fi
}

tcp() {
	"$PGBIN/psql" -X -q -At -h 127.0.0.1 -U postgres -d postgres -v VERBOSITY=verbose -c "$1" 2>&1
}

case_wire() { # over TCP, seen by nothing but the wire's programs; psql asks for encryption first and is refused
	cat >"$policies/kill.yaml" <<'YAML'
apiVersion: dbfence.dev/v1
kind: Policy
metadata:
  name: kill
spec:
  mode: enforce
  rules:
    - name: no-truncate
      when:
        commands: [TRUNCATE TABLE]
      action: kill
YAML
	daemon_starts --vantage wire --mode enforce --hold-ms 5000 || { fail wire "dbfenced did not get ready: $(tail -n 5 "$log")"; return; }
	got=$(tcp 'select 42 as kernels_wire')
	[ "$got" = 42 ] || { fail wire "the client got: $got"; return; }
	expect_record wire kernels_wire '"vantage": *"wire"' '"outcome": *"executed"' '"rows": *"?1"?[,}]' '"exe": *"[^"]*psql"'
}

case_wire_hold() {
	got=$(tcp "select 'drop table' as kernels_wire_hold")
	[ "$got" = 'drop table' ] || { fail wire_hold "the client got: $got"; return; }
	expect_record wire_hold kernels_wire_hold '"outcome": *"executed"' '"held_us": *"?[1-9]'
}

case_wire_reject() {
	got=$(tcp 'drop table kernels_t')
	case $got in
	*42601*"at or near \"blocked"*) ;;
	*) fail wire_reject "the client got: $got"; return ;;
	esac
	expect_record wire_reject 'drop table kernels_t' '"vantage": *"wire"' '"outcome": *"prevented"'
}

case_wire_kill() {
	got=$(tcp 'truncate table kernels_t')
	case $got in
	*FATAL*"blocked by policy no_truncate"*) ;;
	*) fail wire_kill "the client got: $got"; return ;;
	esac
	got=$(sql 'select count(*) from kernels_t')
	[ "$got" = 1 ] || { fail wire_kill "the rows did not survive: $got"; return; }
	expect_record wire_kill 'truncate table kernels_t' '"vantage": *"wire"' '"outcome": *"prevented"'
	kill -TERM "$daemon"
}

daemon_cases="observe reject hold sandbox stop wire wire_hold wire_reject wire_kill"
mkdir -p /run/smoke
echo "PLAN 12"
case_postgres
case_unit
case_gate
if [ $failed = 1 ] || [ ! -x "$DBFENCED" ] || [ ! -x "$DBFENCE" ]; then
	reason="dbfenced and dbfence are not built"
	[ $failed = 0 ] || reason="the guest itself does not work"
	for name in $daemon_cases; do skip "$name" "$reason"; done
	exit $failed
fi
sql 'create table kernels_t as select 1 as a' >/run/smoke/create
if start_daemon; then
	for name in $daemon_cases; do "case_$name"; done
else
	for name in $daemon_cases; do fail "$name" "dbfenced did not get ready: $(tail -n 5 "$log")"; done
fi
if [ $failed = 1 ]; then
	sed 's/^/dbfenced| /' "$log" | tail -n 60
fi
exit $failed
