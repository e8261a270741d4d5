#!/usr/bin/python3
"""Verifies messages with dkimpy.

usage: dkimpy.py (--dns FILE | --resolver IP[:PORT]) (MESSAGE... | -)

FILE is a table of NAME<TAB>TXT lines; with - the names of messages come line by line from standard input, and each is
answered at once. Prints for each message one line FILE<TAB>pass|fail|temp<TAB>d=<TAB>s=<TAB>reason. A message passes
if it has signatures and all of them verify; d= and s= of several are joined by commas; temp is a DNS that gives no
answer now (TEMPFAIL of RFC 6376 section 6.1.2).
"""
import re
import sys

try:
    import dkim
except ImportError:
    sys.exit("dkimpy is missing: apt-get install python3-dkim python3-nacl")


# What dnspython raises where nobody answers, or with SERVFAIL or REFUSED only.
NO_ANSWER = ("Timeout", "LifetimeTimeout", "NoNameservers")


def table(path):
    with open(path, encoding="utf-8") as lines:
        rows = [line.rstrip("\n").split("\t", 1) for line in lines if line.strip()]
    known = {name.rstrip(".").lower(): text.encode() for name, text in rows}

    def lookup(name, timeout=5):
        return known.get(name.decode().rstrip(".").lower())

    return lookup


def resolver(address):
    try:
        import dns.resolver
    except ImportError:
        sys.exit("dnspython is missing: apt-get install python3-dnspython")
    host, port = address, 53
    bracketed = re.fullmatch(r"\[(.+)\]:(\d+)", address)
    if bracketed:
        host, port = bracketed[1], int(bracketed[2])
    elif address.count(":") == 1:
        host, port = address.split(":")[0], int(address.split(":")[1])
    asking = dns.resolver.Resolver(configure=False)
    asking.nameservers, asking.port = [host], port

    def lookup(name, timeout=5):
        asking.lifetime = timeout
        try:
            answer = asking.resolve(name.decode(), "TXT")
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return None
        return b"".join(answer[0].strings)

    return lookup


def tags(value):
    pairs = (tag.split(b"=", 1) for tag in value.split(b";") if b"=" in tag)
    return {name.strip(): b"".join(text.split()).decode("ascii", "replace") for name, text in pairs}


def verify(message, lookup):
    message = re.sub(rb"\r?\n", b"\r\n", message)
    try:
        signed = dkim.DKIM(message)
    except dkim.MessageFormatError as error:
        return "fail", "", "", " ".join(str(error).split())
    fields = [value for name, value in signed.headers if name.lower() == b"dkim-signature"]
    named = [tags(value) for value in fields]
    d = ",".join(tag.get(b"d", "") for tag in named)
    s = ",".join(tag.get(b"s", "") for tag in named)
    if not fields:
        return "fail", d, s, "no DKIM-Signature"
    for index in range(len(fields)):
        try:
            if not dkim.DKIM(message).verify(idx=index, dnsfunc=lookup):
                return "fail", d, s, "signature %d does not verify" % (index + 1)
        except Exception as error:  # dkimpy raises of many kinds on bad input
            text = " ".join(str(error).split()) or type(error).__name__
            verdict = "temp" if type(error).__name__ in NO_ANSWER else "fail"
            return verdict, d, s, "signature %d: %s" % (index + 1, text)
    return "pass", d, s, "%d verified" % len(fields)


def main(arguments):
    if len(arguments) < 3 or arguments[0] not in ("--dns", "--resolver"):
        sys.exit(__doc__.strip())
    lookup = (table if arguments[0] == "--dns" else resolver)(arguments[1])
    paths = (line.rstrip("\n") for line in sys.stdin) if arguments[2:] == ["-"] else arguments[2:]
    for path in paths:
        with open(path, "rb") as file:
            print("\t".join((path,) + verify(file.read(), lookup)), flush=True)


main(sys.argv[1:])
