#!/bin/sh
# shellcheck shell=bash  # busybox ash knows what is used of it here
# The first program of a guest: sets it up, runs the steps of /script, sends what they wrote through
# the second serial port, and switches the guest off.
set -euo pipefail
trap 'echo "== the script ended with $?"; poweroff -f' EXIT

/bin/busybox --install -s /bin
export PATH=/bin HOME=/ TERM=dumb
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
ip link set lo up
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo +cpuset >/sys/fs/cgroup/cgroup.subtree_control
cpus=/sys/devices/system/cpu

# Where the steps run: a cgroup's folder, and a taskset mask; empty for all there is.
cgroup=
affinity=
seconds=250  # for one step: all labs take 70 s, or more where the host is busy

# step FOLDER/NAME COMMAND...: what it prints and how it ends go to files of that name.
step() {
  local file=/results/$1
  shift
  mkdir -p "${file%/*}"
  echo "== ${file#/results/}: $*"
  local status=0
  in_place "$@" >"$file.out" 2>"$file.err" </dev/null || status=$?
  echo "$status" >"$file.status"
}

# note FOLDER/NAME FUNCTION...: the same for what needs no program of its own.
note() {
  local file=/results/$1
  shift
  mkdir -p "${file%/*}"
  "$@" >"$file.out" 2>"$file.err" </dev/null
  echo 0 >"$file.status"
}

in_place() (
  [ -z "$cgroup" ] || echo 0 >"$cgroup/cgroup.procs"
  exec ${affinity:+taskset "$affinity"} timeout -s KILL "$seconds" "$@"
)

# narrow NAME CPUS NODES: the steps that follow run in a cgroup with these, in the kernel's lists.
narrow() {
  cgroup=/sys/fs/cgroup/$1
  mkdir "$cgroup"
  echo "$2" >"$cgroup/cpuset.cpus"
  echo "$3" >"$cgroup/cpuset.mems"
}

# switch_cpu CPU 0|1. The kernel may refuse with EBUSY for a moment; and Linux 6.1 divides by zero
# if the CPU goes on which a SCHED_DEADLINE thread, such as doctor tries, has just ended.
switch_cpu() {
  local tries=0
  sleep 0.2
  until echo "$2" >"$cpus/cpu$1/online" || [ $((tries += 1)) = 10 ]; do
    sleep 1
  done
  [ "$(cat "$cpus/cpu$1/online")" = "$2" ]
}

# The programs of schedlab that still run, by process.
left_behind() {
  local process
  for process in /proc/[0-9]*; do
    [ "$(readlink "$process/exe")" != /bin/schedlab ] || echo "${process#/proc/}"
  done
}

# shellcheck source=/dev/null
. /script

stty -F /dev/ttyS1 raw
tar -C /results -cz . >/dev/ttyS1
echo "== all sent"
