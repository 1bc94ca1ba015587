# SPDX-License-Identifier: Apache-2.0
"""pgbouncer in front of a scratch cluster. Owns its process and its folder; knows nothing of the daemon."""
import os
import shutil
import subprocess

from e2e import Skip, end_process, run, wait_until


class Bouncer:
    """With session pooling, on a socket and a port of its own; it reaches the server over @transport."""

    def __init__(self, cluster, transport="unix"):
        binary = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/sbin:/bin")
        if not binary:
            raise Skip("pgbouncer is not installed")
        self.host, self.client = cluster.host, cluster.client
        self.dir = os.path.join(cluster.dir, "bouncer")
        self.port = cluster.port + 1 if cluster.port < 65535 else cluster.port - 1
        os.mkdir(self.dir)
        os.chown(self.dir, cluster.owner["user"], cluster.owner["group"])
        with open(os.path.join(self.dir, "users"), "w", encoding="ascii") as f:
            f.write('"postgres" ""\n')
        config = os.path.join(self.dir, "ini")
        server = cluster.sock if transport == "unix" else cluster.host
        with open(config, "w", encoding="ascii") as f:
            f.write(f"[databases]\n* = host={server} port={cluster.port}\n[pgbouncer]\n"
                    f"listen_addr = {self.host}\nlisten_port = {self.port}\nunix_socket_dir = {self.dir}\n"
                    f"auth_type = trust\nauth_file = {self.dir}/users\npool_mode = session\nserver_tls_sslmode = disable\n"
                    f"logfile = {self.dir}/log\npidfile = {self.dir}/pid\nlog_connections = 0\n"
                    "log_disconnections = 0\nmax_client_conn = 100\ndefault_pool_size = 50\n")
        with cluster.server:
            self.proc = subprocess.Popen([binary, config], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL, **cluster.owner)
        ready = [cluster.bin("pg_isready"), "-q", "-h", self.dir, "-p", str(self.port)]
        wait_until(lambda: self.proc.poll() is None and run(ready, check_rc=False).returncode == 0, 10, "pgbouncer")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def env(self, env, transport):
        return dict(env, PGHOST=self.dir if transport == "unix" else self.host, PGPORT=str(self.port))

    def close(self):
        end_process(self.proc, (15, 9))
        shutil.rmtree(self.dir, ignore_errors=True)
