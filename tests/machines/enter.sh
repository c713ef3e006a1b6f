#!/bin/bash
# enter.sh NAME TREE DIRECTORY NETNS DISK_MB MEMORY_MB KIND: the container of a test machine; it ends when the machine is off.
# KIND: plain, or docker for one with containers of its own.
set -euo pipefail
name=$1 tree=$2 directory=$3 netns=$4 disk_mb=$5 memory_mb=$6 kind=$7
controllers="memory pids cpu" allowed=(--capability=CAP_NET_ADMIN) spare=""
if [ "$kind" = docker ]; then  # control groups, keys and sysctls of its own; a controller it may not write to must not be there
    controllers+=" devices" allowed=(--capability=all --system-call-filter="add_key keyctl") spare="blkio cpuacct cpuset freezer"
    export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
fi
if [ "${8:-}" != inside ]; then
    for controller in $controllers; do  # its own limits first: nothing in it may hurt this machine
        mkdir -p "/sys/fs/cgroup/$controller/$name"
        case $controller in
            memory) echo $((memory_mb << 20)) > "/sys/fs/cgroup/memory/$name/memory.limit_in_bytes" ;;
            pids) echo 1000 > "/sys/fs/cgroup/pids/$name/pids.max" ;;
            cpu) echo 512 > "/sys/fs/cgroup/cpu/$name/cpu.shares" ;;  # its cloud is outside, and must be able to answer
        esac
        echo $$ > "/sys/fs/cgroup/$controller/$name/cgroup.procs"
    done
    for hierarchy in systemd unified; do
        mkdir -p "/sys/fs/cgroup/$hierarchy/$name"
        echo $$ > "/sys/fs/cgroup/$hierarchy/$name/cgroup.procs"
    done
    exec unshare --mount --cgroup -- "$0" "$@" inside
fi
exec 9< "/run/netns/$netns"  # /run is about to be another
mount --make-rprivate /
mount -t tmpfs tmpfs /run -o mode=755
umount -R /sys/fs/cgroup && mount -t tmpfs tmpfs /sys/fs/cgroup -o mode=755  # again, as seen from our own control groups
mkdir /sys/fs/cgroup/{systemd,unified}
for controller in $controllers; do mkdir "/sys/fs/cgroup/$controller" && mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller"; done
mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
mkdir -p "$directory/disk"
mount -t tmpfs -o "size=${disk_mb}m,mode=755" tmpfs "$directory/disk"
mkdir "$directory"/disk/{upper,work,root}
mount -t overlay overlay -o "lowerdir=$directory/added:$tree,upperdir=$directory/disk/upper,workdir=$directory/disk/work" "$directory/disk/root"
init="for c in $controllers; do mount -o remount,rw,bind /sys/fs/cgroup/\$c; done
for c in $spare; do umount /sys/fs/cgroup/\$c; done; exec /lib/systemd/systemd"
for boot in 1 2 3; do
    echo "== power on $boot"
    code=0
    systemd-nspawn --quiet --directory="$directory/disk/root" --register=no --keep-unit --resolv-conf=off --timezone=off --hostname="$name" \
        --network-namespace-path="/proc/$$/fd/9" "${allowed[@]}" --uuid="$(cat /proc/sys/kernel/random/uuid)" \
        /bin/sh -c "$init" systemd || code=$?
    echo "== power off $boot: $code"
    mkdir -p "$directory/kept"
    cp -r "$directory/disk/root/var/lib/runs-fleet" "$directory/kept/state" 2>/dev/null || true
    [ "$code" = 133 ] || exit 0
done
