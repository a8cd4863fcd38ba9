#!/usr/bin/env python3
"""Runs a command under a seccomp profile as a kubelet would: seccomp.py PROFILE.json COMMAND...

Reads the subset of the OCI format that our profile uses: one default, lists of names with one action.
"""
import ctypes
import errno
import json
import os
import sys

ALLOW = 0x7FFF0000
DENY = 0x00050000 | errno.EPERM
ACTIONS = {"SCMP_ACT_ALLOW": ALLOW, "SCMP_ACT_ERRNO": DENY}


def load(profile):
    """From here on this process may make only the profile's system calls."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(ACTIONS[profile["defaultAction"]])))
    for rule in profile["syscalls"]:
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number == -1:
                raise ValueError(f"{name} is no system call that libseccomp knows")
            action = ctypes.c_uint32(ACTIONS[rule["action"]])
            if library.seccomp_rule_add(context, action, number, 0) != 0:
                raise ValueError(f"no rule for {name}")
    if library.seccomp_load(context) != 0:
        raise OSError("the kernel takes no seccomp filter")


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        profile = json.load(file)
    load(profile)
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
