set -eu
# The files of the image stand in for an installation, with their own libraries.
root=/srv/gateway
mkdir -p $root
podman create --name files localhost/ollama-gateway:latest
podman export files | tar -x -C $root
ln -s gateway $root/opt/ollama-gateway
useradd --system --home-dir /var/lib/ollama-gateway --shell /usr/sbin/nologin ollama-gateway
mkdir -p /etc/ollama-gateway $root/etc/ollama-gateway
cp /etc/containers/systemd/gateway.toml /etc/ollama-gateway/
for unit in ollama-gateway ollama; do
    folder=/etc/systemd/system/$unit.service.d
    mkdir -p $folder
    printf '[Service]\nRootDirectory=%s\nMountAPIVFS=yes\nBindReadOnlyPaths=/etc/ollama-gateway\n' $root >$folder/root.conf
done

# As the unit's comment says for older versions.
version=$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
if [ "$version" -lt 253 ]; then
    printf '[Service]\nType=notify\nExecReload=/opt/ollama-gateway/bin/gatewayctl reload\n' \
        >/etc/systemd/system/ollama-gateway.service.d/older.conf
fi
