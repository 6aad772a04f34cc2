"""The command line: ``python -m pipeline VERB …``, one verb for each thing a person wants done."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from typing import Any

from pipeline.errors import EXIT_CODES, PipelineError
from pipeline.terminal import Terminal

EXITS = "exit codes:\n" + "\n".join(f"  {code:3}  {text}" for code, text in EXIT_CODES.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb. Its value goes to standard output as JSON with ``--json``."""
    from pipeline.commands import VERBS

    options = parsed(VERBS, sys.argv[1:] if arguments is None else list(arguments))
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    terminal = Terminal(quiet=options.json)
    try:
        value = VERBS[options.verb].act(options, terminal)
    except PipelineError as fault:
        if options.json:
            print(json.dumps({"error": str(fault), "exit_code": fault.exit_code, **fault.details}))
        print(str(fault), file=sys.stderr)
        return fault.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left; nothing is wrong
        sys.stderr.close()
        return 0
    if options.json:
        print(json.dumps(value, ensure_ascii=False))
    return 0


def parsed(verbs: dict[str, Any], words: list[str]) -> argparse.Namespace:
    """A verb's options may stand before, between or behind its other words."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m pipeline", description=__doc__, epilog=EXITS, formatter_class=plain
    )
    parsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, verb in verbs.items():
        one = parsers.add_parser(
            name, help=verb.help, description=verb.help, epilog=EXITS, formatter_class=plain
        )
        for names, settings in verb.arguments:
            one.add_argument(*names, **settings)
        one.add_argument("--json", action="store_true", help="print the result as JSON")
        one.set_defaults(verb=name)
    known = parsers.choices.get(words[0]) if words else None
    return known.parse_intermixed_args(words[1:]) if known else parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
