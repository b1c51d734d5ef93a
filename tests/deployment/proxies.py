"""Real proxies in front of servers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.deployment.places import CADDYFILE
from tests.deployment.processes import bin_directory, free_port, started, wait_until_ready
from tests.nginx import nginx_program

#: Connections to the server are kept, requests are passed on as they come, and so is `Upgrade`, as everyone has it who
#: also serves WebSockets.
_NGINX = """
daemon off;
pid nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
    upstream replicas { server %(hosts)s; keepalive 8; }
    server {
        listen 127.0.0.1:%(port)d;
        location /admin { return 403; }
        location / {
            proxy_pass http://replicas;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_request_buffering off;
            proxy_buffering off;
        }
    }
}
"""


@contextmanager
def caddy(replicas: Sequence[str], folder: Path) -> Iterator[str]:
    """``docker/Caddyfile`` before servers; yields the proxy's URL."""
    port, log = free_port(), folder / "caddy"
    variables = {"PROXY_ADDRESS": f"http://127.0.0.1:{port}", "REPLICAS": " ".join(map(_host, replicas))}
    variables["HOME"] = str(folder)
    command = [bin_directory() / "caddy", "run", "--config", CADDYFILE, "--adapter", "caddyfile"]
    with started(command, environment=variables, cwd=folder, log=log) as process:
        wait_until_ready(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}"


@contextmanager
def nginx(replicas: Sequence[str], folder: Path) -> Iterator[str]:
    """nginx before servers; yields the proxy's URL. It keeps ``/admin`` to itself."""
    port, log = free_port(), folder / "nginx"
    configuration = folder / "nginx.conf"
    configuration.write_text(_NGINX % {"hosts": "; server ".join(map(_host, replicas)), "port": port})
    command = [nginx_program(), "-p", folder, "-c", configuration]
    with started(command, environment={}, cwd=folder, log=log) as process:
        wait_until_ready(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}"


def _host(url: str) -> str:
    return url.removeprefix("http://")
