"""What a client may write into a task or a user, checked by hand. Anything else is a `Refused`, which names the field."""

import datetime

LIMITS = {"title": (1, 200), "notes": (0, 10000), "name": (1, 80)}


class Refused(Exception):
    """The text is for the client."""


def text(name, value):
    low, high = LIMITS[name]
    if not isinstance(value, str) or "\0" in value:
        raise Refused(f"{name}: not a text")
    if not low <= len(value.strip()) or len(value) > high:
        raise Refused(f"{name}: not {low} to {high} characters")
    return value


def day(name, value):
    if value is None:
        return None
    try:
        return datetime.date.fromisoformat(value)
    except (TypeError, ValueError):
        raise Refused(f"{name}: not a date like 2030-01-31") from None


def number(name, value):
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
        raise Refused(f"{name}: not an id")
    return value


def flag(name, value):
    if not isinstance(value, bool):
        raise Refused(f"{name}: not true or false")
    return value


TASK = {"title": text, "notes": text, "due": day, "assignee": number, "done": flag}
USER = {"name": text}


def read(body, known, required=()):
    """The fields of a JSON body, as the database wants them."""
    if not isinstance(body, dict):
        raise Refused("body: not a JSON object")
    if unknown := sorted(set(body) - set(known)):
        raise Refused(f"{unknown[0]}: no such field")
    if missing := [name for name in required if name not in body]:
        raise Refused(f"{missing[0]}: missing")
    return {name: known[name](name, value) for name, value in body.items()}
