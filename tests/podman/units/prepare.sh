set -eu
printf %s a-chain-key | podman secret create ollama-gateway-chain-key -
mkdir -p /etc/ollama-gateway
cp /etc/containers/systemd/gateway.toml /etc/ollama-gateway/
cp /etc/containers/systemd/*.socket /etc/systemd/system/ || true

# Quadlet's own services say --ignore, which podman 4.3 does not know.
for kind in network volume; do
    podman $kind create --help | grep -q -- --ignore && continue
    folder=/etc/systemd/system/ollama-gateway-$kind.service.d
    mkdir -p $folder
    printf '[Service]\nExecStart=\nExecStart=podman %s create ollama-gateway\n' $kind >$folder/old-podman.conf
done
