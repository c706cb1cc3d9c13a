# SPDX-License-Identifier: GPL-2.0-or-later
"""What the benches share: a guest of lodge or of QEMU whose console is read, and figures with ratios."""

import json
import os
import select
import shutil
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.abspath(os.environ.get("LODGE_BUILD") or os.path.join(SOURCE, "build"))
LODGE = os.path.join(BUILD, "lodge", "lodge")
MKINITRAMFS = os.path.join(BUILD, "guest-images", "mkinitramfs")
QEMU = "/usr/bin/qemu-system-x86_64"
RELEASE = os.uname().release
KERNEL = f"/boot/vmlinuz-{RELEASE}"
MODULES = ["virtio_pci", "?virtio_mmio", "virtio_blk", "virtio_net"]
READY = "BENCH-READY"
GUEST_RAM = 512
GUEST_TIMEOUT = 180
LINE = "console=ttyS0 quiet panic=-1 i8042.noaux i8042.nopnp tsc=reliable lodge.end=port:0xf4"


class Guest:
    """A monitor's process whose standard output is the guest's serial console."""

    def __init__(self, command):
        self.start = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        self.text = ""

    def wait_for(self, mark):
        """Seconds from the start until the console shows @mark."""
        while mark not in self.text:
            left = self.start + GUEST_TIMEOUT - time.monotonic()
            ready = select.select([self.process.stdout], [], [], max(left, 0))[0]
            chunk = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not chunk:
                raise RuntimeError(f"{self.process.args[0]} did not get to {mark}:\n{self.text[-3000:]}")
            self.text += chunk.decode(errors="replace")
        return time.monotonic() - self.start

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def with_guest(command, measure):
    """Starts a guest, calls @measure with it and ends it, whatever happens."""
    for attempt in (1, 2, 3):
        guest = Guest(command)
        try:
            return measure(guest)
        except RuntimeError as error:
            if attempt == 3:
                raise
            print(f"# started again: {error}", flush=True)
        finally:
            guest.end()


def lodge(initrd, extra, disk, net, ram=GUEST_RAM):
    command = [LODGE, "run", "-k", KERNEL, "-i", initrd, "-m", str(ram), "-c", "1"]
    if disk:
        command += ["--disk", f"path={disk}"]
    if net == "user":
        command += ["--net", "type=user,mac=52:54:00:00:00:01"]
    elif net:
        command += ["--net", f"type=tap,ifname={net},mac=52:54:00:00:00:01"]
    return command + ["-p", LINE + " " + extra]


def qemu(machine, kernel, initrd, extra, disk, net, iothread=False, ram=GUEST_RAM):
    kind = "device" if machine == "microvm" else "pci"
    command = [QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-enable-kvm", "-cpu", "host",
               "-smp", "1", "-m", str(ram), "-serial", "stdio", "-kernel", kernel, "-initrd", initrd,
               "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
               "-append", LINE + " " + extra]
    if machine == "microvm":
        command += ["-M", "microvm,rtc=on,isa-serial=on,acpi=off,x-option-roms=off,auto-kernel-cmdline=on"]
    else:
        command += ["-M", "q35"]
    if disk:
        command += ["-drive", f"if=none,id=d,file={disk},format=raw,aio=io_uring",
                    "-device", f"virtio-blk-{kind},drive=d" + (",iothread=t" if iothread else "")]
    if iothread:
        command += ["-object", "iothread,id=t"]
    if net == "user":
        command += ["-netdev", "user,id=n", "-device", f"virtio-net-{kind},netdev=n,mac=52:54:00:00:00:01"]
    elif net:
        command += ["-netdev", f"tap,id=n,ifname={net},script=no,downscript=no",
                    "-device", f"virtio-net-{kind},netdev=n,mac=52:54:00:00:00:01"]
    return command


def kvm_counters(pid):
    """KVM's statistics of a process's machine, summed over vCPUs."""
    base = "/sys/kernel/debug/kvm"
    counters = {}
    if not os.path.isdir(base):
        return counters
    for name in os.listdir(base):
        if name.startswith(f"{pid}-"):
            for root, _, files in os.walk(os.path.join(base, name)):
                for counter in files:
                    try:
                        value = int(open(os.path.join(root, counter)).read())
                    except (OSError, ValueError):
                        continue
                    if root != os.path.join(base, name) or counter not in counters:
                        counters[counter] = counters.get(counter, 0) + value if root != os.path.join(base, name) else value
    return counters


def verdict(value, goal, unit=""):
    """What is to be said of @value beside @goal: a sign ("<=", ">=") and a bound, or None."""
    if not goal:
        return ""
    sign, bound = goal
    reached = value <= bound if sign == "<=" else value >= bound
    return f"   goal {sign} {bound}{unit}: {'reached' if reached else 'NOT reached'}"


class Figures:
    """Values by measure and who was measured."""

    def __init__(self):
        self.values = {}  # (measure, who) -> [value]

    def add(self, measure, who, value):
        self.values.setdefault((measure, who), []).append(value)
        print(f"# {measure}, {who}: {value:.4g}", flush=True)

    def median(self, measure, who):
        values = self.values.get((measure, who))
        return statistics.median(values) if values else None

    def table(self, measures):
        for measure, unit, goals in measures:
            people = [who for (m, who) in self.values if m == measure]
            if "lodge" not in people:
                continue
            ours = self.median(measure, "lodge")
            spread = self.values[(measure, "lodge")]
            print(f"{measure}: lodge {ours:.4g} {unit} (min {min(spread):.4g}, max {max(spread):.4g}, n {len(spread)})")
            for who in people:
                if who == "lodge":
                    continue
                theirs = self.median(measure, who)
                ratio = ours / theirs if theirs else float("inf")
                print(f"    {who:18} {theirs:.4g} {unit}   ratio lodge/{who} {ratio:.2f}{verdict(ratio, goals.get(who))}")
            if goals.get("lodge"):
                print(f" {verdict(ours, goals['lodge'], ' ' + unit)}")
        sys.stdout.flush()

    def write(self, path):
        """Every value, as JSON."""
        with open(path, "w") as file:
            json.dump({f"{measure} / {who}": values for (measure, who), values in self.values.items()}, file, indent=1)


def measure_where_kvm_works(program):
    """Goes on in the lab if this host's KVM can't run a stock kernel."""
    if subprocess.run([LODGE, "doctor"], stdout=subprocess.DEVNULL).returncode:
        print("This host's KVM can't run a stock kernel: measuring in the lab.", flush=True)
        os.execv(os.path.join(SOURCE, "tests", "lab", "enter"),
                 ["enter", "--env", "LODGE_BUILD=" + BUILD, "--", os.path.join(HERE, program)] + sys.argv[1:])


def need(*tools):
    for tool in tools:
        if not shutil.which(tool):
            sys.exit(f"bench: {tool} is missing; tests/prepare installs it")
