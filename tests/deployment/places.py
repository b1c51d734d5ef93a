"""Where the files lie that are deployed from."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILE = DOCKER / "Dockerfile"
COMPOSE = DOCKER / "compose.yaml"
CADDYFILE = DOCKER / "Caddyfile"
KUBERNETES = DOCKER / "kubernetes"
SYSTEMD = DOCKER / "systemd"
