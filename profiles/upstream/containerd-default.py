"""Turns containerd's contrib/seccomp/seccomp_default.go, which is a program, into the JSON that says the same.

    python3 containerd-default.py seccomp_default.go > containerd-default.json

The conditions of the program become `includes` and `excludes` of Docker's format. Whatever it does not know is an error.
"""

import json
import re
import sys

CLONE = {"NEWNS": 0x20000, "NEWCGROUP": 0x2000000, "NEWUTS": 0x4000000, "NEWIPC": 0x8000000,
         "NEWUSER": 0x10000000, "NEWPID": 0x20000000, "NEWNET": 0x40000000}
ACTIONS = {"Allow": "SCMP_ACT_ALLOW", "Errno": "SCMP_ACT_ERRNO"}
OPS = {"EqualTo": "SCMP_CMP_EQ", "MaskedEqual": "SCMP_CMP_MASKED_EQ"}
GOARCH = {"ppc64le": "ppc64le", "arm": "arm", "arm64": "arm64", "amd64": "amd64", "386": "x86", "s390": "s390",
          "s390x": "s390x", "riscv64": "riscv64"}
ARCH_MAP = [("X86_64", ["X86", "X32"]), ("AARCH64", ["ARM"]), ("MIPS64", ["MIPS", "MIPS64N32"]),
            ("MIPS64N32", ["MIPS", "MIPS64"]), ("MIPSEL64", ["MIPSEL", "MIPSEL64N32"]),
            ("MIPSEL64N32", ["MIPSEL", "MIPSEL64"]), ("S390X", ["S390"])]


def value(text):
    if "unix" not in text:
        return int(text, 0)
    return sum(CLONE[flag.removeprefix("unix.CLONE_")] for flag in text.split(" | "))


rules, rule, arg, includes, excludes = [], None, None, {}, {}
names = False
body = open(sys.argv[1]).read().split("func DefaultProfile", 1)[1]
for line in map(str.strip, body.splitlines()):
    if line.startswith("Names:"):
        rule = {"names": re.findall(r'"(\w+)"', line), "action": None, "args": [],
                "includes": dict(includes), "excludes": dict(excludes)}
        rules.append(rule)
        names = line.endswith("{")
    elif names and line == "},":
        names = False
    elif names:
        rule["names"].append(re.fullmatch(r'"(\w+)",', line)[1])
    elif found := re.fullmatch(r"Action:\s+specs\.Act(\w+),", line):
        rule["action"] = ACTIONS[found[1]]
    elif line.startswith("ErrnoRet:"):
        assert "&nosys" in line
        rule["errnoRet"] = 38
    elif found := re.fullmatch(r"Index:\s+(\d+),", line):
        arg = {"index": int(found[1]), "value": None, "valueTwo": 0, "op": None}
        rule["args"].append(arg)
    elif found := re.fullmatch(r"Value:\s+(.*),", line):
        arg["value"] = value(found[1])
    elif found := re.fullmatch(r"ValueTwo:\s+(.*),", line):
        arg["valueTwo"] = value(found[1])
    elif found := re.fullmatch(r"Op:\s+specs\.Op(\w+),", line):
        arg["op"] = OPS[found[1]]
    elif line.startswith("kernelversion.KernelVersion{Kernel: 4, Major: 8}"):
        includes = {"minKernel": "4.8"}
    elif line == "if !admin {":
        includes, excludes = {}, {"caps": ["CAP_SYS_ADMIN"]}
    elif line.startswith("case "):
        words = re.findall(r'"(\w+)"', line)
        if words[0].startswith("CAP_"):
            includes = {"caps": words}
        else:
            includes = {"arches": [GOARCH[word] for word in words]}
    elif line == "default:":
        # beside s390, where clone has its flags in the second argument
        includes, excludes = {}, {"arches": ["s390", "s390x"], "caps": ["CAP_SYS_ADMIN"]}
    elif line.startswith("// clone3 is"):
        includes, excludes = {}, {"caps": ["CAP_SYS_ADMIN"]}
    elif line in ("// include by arch", "admin := false"):
        includes = {}
    else:
        known = r"|".join([r"[{}()\[\],]*", r"\}\)+", r"Args:.*", r"//.*", r"s :?= .*", r"s\.Syscalls = .*", r"return s",
                           r"Default\w+:.*", r"Architectures:.*", r"Syscalls:.*", r"\(sp .*", r"nosys := .*",
                           r"syscalls := .*", r"if ok, err := .*", r"if ok \{", r"switch .*", r"admin = true",
                           r"for _, c := range .*", r"\}, specs.*", r"Comment:.*"])
        assert re.fullmatch(known, line), line

for rule in rules:
    for key in ("includes", "excludes"):
        if not rule[key]:
            del rule[key]
    assert rule["names"] and rule["action"]
    assert all(None not in arg.values() for arg in rule["args"])
scmp = "SCMP_ARCH_{}".format
json.dump({
    "defaultAction": "SCMP_ACT_ERRNO",
    "archMap": [{"architecture": scmp(native), "subArchitectures": [scmp(sub) for sub in subs]}
                for native, subs in ARCH_MAP],
    "syscalls": rules,
}, sys.stdout, indent="\t")
print()
