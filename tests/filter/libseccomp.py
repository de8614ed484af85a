"""What libseccomp makes of a seccomp file, loaded as Docker or podman and runc load it.

    libseccomp.py FILE NATIVE MAJOR.MINOR ENGINE CAPABILITIES BPF

Writes the filter's program to BPF, and to stdout the names that libseccomp does not know. It is an implementation of its own of
what profiler's `model::effective` says, so that one can be held against the other.
"""

import json
import sys

import seccomp

path, native, kernel, engine, held, out = sys.argv[1:]
held = set(held.split(","))
kernel = tuple(map(int, kernel.split(".")))
WORD = {"X86_64": "amd64", "X86": "x86", "AARCH64": "arm64", "ARM": "arm", "RISCV64": "riscv64"}[native]
OPS = {"NE": seccomp.NE, "LT": seccomp.LT, "LE": seccomp.LE, "EQ": seccomp.EQ, "GE": seccomp.GE, "GT": seccomp.GT,
       "MASKED_EQ": seccomp.MASKED_EQ}

with open(path) as text:
    file = json.load(text)


def action(name, errno):
    errno = 1 if errno is None else errno
    return {
        "SCMP_ACT_ALLOW": seccomp.ALLOW, "SCMP_ACT_LOG": seccomp.LOG, "SCMP_ACT_TRAP": seccomp.TRAP,
        "SCMP_ACT_KILL": seccomp.KILL, "SCMP_ACT_KILL_THREAD": seccomp.KILL, "SCMP_ACT_NOTIFY": seccomp.NOTIFY,
        "SCMP_ACT_KILL_PROCESS": seccomp.KILL_PROCESS, "SCMP_ACT_ERRNO": seccomp.ERRNO(errno),
        "SCMP_ACT_TRACE": seccomp.TRACE(errno),
    }[name]


def kept(rule):
    if engine == "oci":
        return True
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    new = lambda text: kernel >= tuple(map(int, text.split(".")))
    if engine == "docker" and "minKernel" in includes and not new(includes["minKernel"]):
        return False
    if engine == "docker" and "minKernel" in excludes and new(excludes["minKernel"]):
        return False
    return not (WORD in (excludes.get("arches") or []) or set(excludes.get("caps") or []) & held
                or includes.get("arches") and WORD not in includes["arches"]
                or set(includes.get("caps") or []) - held)


default = action(file["defaultAction"], file.get("defaultErrnoRet"))
loaded = seccomp.SyscallFilter(default)
architectures = list(file.get("architectures") or [])
if engine != "oci":
    for entry in file.get("archMap") or []:
        if entry["architecture"] == "SCMP_ARCH_" + native:
            architectures += entry["subArchitectures"]
this = seccomp.Arch(seccomp.Arch.NATIVE)
wanted = {native} | {name.removeprefix("SCMP_ARCH_") for name in architectures}
for name in sorted(wanted):
    arch = getattr(seccomp.Arch, name)
    if arch != seccomp.Arch.X86_64:
        loaded.add_arch(arch)
if "X86_64" not in wanted:
    loaded.remove_arch(seccomp.Arch.X86_64)

unknown = set()
for rule in filter(kept, file.get("syscalls") or []):
    does = action(rule["action"], rule.get("errnoRet"))
    if does == default:
        continue
    args = [seccomp.Arg(a["index"], OPS[a["op"].removeprefix("SCMP_CMP_")], a["value"], a.get("valueTwo", 0))
            for a in rule.get("args") or []]
    indices = [a["index"] for a in rule.get("args") or []]
    names = list(rule.get("names") or [])
    if engine != "oci" and rule.get("name"):
        names.append(rule["name"])
    for name in names:
        if seccomp.resolve_syscall(this, name) == -1:
            unknown.add(name)
            continue
        try:
            if len(set(indices)) < len(indices):
                for arg in args:
                    loaded.add_rule(does, name, arg)
            else:
                loaded.add_rule(does, name, *args)
        except OSError as error:
            # a rule for the same call and arguments is there already
            if error.errno != 17:
                raise

with open(out, "wb") as program:
    loaded.export_bpf(program)
json.dump(sorted(unknown), sys.stdout)
