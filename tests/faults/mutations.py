"""Take the handling of each fault out of a copy of the package, and see its cells fail.

    python -m tests.faults.mutations [FAULT ...]

A test that passes without the code that it is about shows nothing. This takes some minutes, hence
it is no part of the suite. It ends with status 1 where a cell passes without the handling.
"""

import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from tests.faults.entries import ENTRIES
from tests.faults.faults import FAULTS, RESULT

ROOT = Path(__file__).parents[2]

WORDS_OF_SERVER = ("_replies.py", "what = short_line(hide(message), 500) or", "what =")
NO_CONNECTION = ("_transport.py", 'elif "TransportError" in kinds:', "elif False:")
NO_RETRY = ("_transport.py", "transient=not down, sent", "transient=False, sent")
TOO_LATE = (
    "_transport.py",
    'code="timeout" if self.sent else "",\n            transient=True,',
    'code="timeout" if self.sent else "",',
)
CUT_STREAM = ("_replies.py", "    if not ended:\n        return None\n", "")
BROKEN_OFF = (
    "_transport.py",
    "elif self.began < math.inf and kinds",
    "elif kinds < kinds and kinds",
)
NO_JSON = (
    "_replies.py",
    "    except ValueError as error:\n        payload, why",
    "    except OSError as error:\n        payload, why",
)
NO_VOTES = ("_probabilities.py", "if row is None and i not in self.failures]", "if False]")
ROWS_GO_ON = (
    "../augmentation/_writers.py",
    "except LLMError as caught:",
    "except ZeroDivisionError as caught:",
)
OF_THE_PROMPT = (
    "_engine.py",
    "self._fail(task, task.earlier, refused_prompt(error))",
    "raise error",
)
NO_LADDER = ("_obtain.py", "if not self._may_take_less(request, error, n_failures):", "if True:")

# (file of skllmreg/llm, what stands there, what takes its place)
HANDLING = {
    "429, once": [("_replies.py", "status in (200, 408, 409, 429)", "status in (200, 408, 409)")],
    "429, for good": [WORDS_OF_SERVER],
    "429 with Retry-After": [("_replies.py", "retry_after=pause", "retry_after=None")],
    "429 with Retry-After of hours": [
        ("_replies.py", "return max(0.0, seconds)", "return 0.0 * seconds")
    ],
    "500, once": [("_replies.py", "status >= 500 and", "status >= 600 and"), NO_LADDER],
    "500, for good": [WORDS_OF_SERVER],
    "connection reset, once": [NO_RETRY],
    "connection reset, for good": [NO_CONNECTION],
    "no answer in time, once": [TOO_LATE],
    "no answer in time, for good": [("_transport.py", "at work, raise timeout", "at work, wait")],
    "slow drip, once": [TOO_LATE],
    "slow drip, for good": [("_transport.py", "is still sending its reply", "is slow")],
    "silence in a stream, then life": [
        (
            "_transport.py",
            "if self.good and chunk:\n                    self.alive =",
            "if self.good and chunk:\n                    _ =",
        ),
    ],
    "stream broken off, once": [CUT_STREAM],
    "stream broken off, for good": [CUT_STREAM],
    "error within a stream, once": [
        ("_replies.py", 'if chunk.get("error") or chunk.get("object") == "error":', "if False:"),
        CUT_STREAM,
    ],
    "error within a stream, for good": [
        ("_replies.py", 'if chunk.get("error") or chunk.get("object") == "error":', "if False:")
    ],
    "stream ignored": [
        (
            "_replies.py",
            "if not is_stream(text):",
            "if False:",
        )
    ],
    "stream refused": [("_replies.py", "if stream and (*self._taken, stream)", "if False and ()")],
    "body broken off, once": [BROKEN_OFF],
    "body broken off, for good": [BROKEN_OFF],
    "body no JSON, once": [NO_JSON],
    "body no JSON, for good": [NO_JSON],
    "a web page with status 200": [("_replies.py", 'if text.lstrip()[:1] == "<":', "if False:")],
    "400 for a parameter that the package adds": [NO_LADDER],
    "400 of a content filter, for one prompt": [
        OF_THE_PROMPT,
        ("_replies.py", "and error.code not in PROMPT_CODES", ""),
    ],
    "400 in words of its own, for one prompt": [
        ("_engine.py", "self.unclear[task.index] = error", "raise error")
    ],
    "no log-probabilities": [NO_VOTES],
    "a reply of the wrong form, once": [
        ("_engine.py", "MAX_REPAIRS = 2", "MAX_REPAIRS = 0"),
        NO_VOTES,
    ],
    "a reply of the wrong form, three times": [
        ("_engine.py", "MAX_REPAIRS = 2", "MAX_REPAIRS = 5")
    ],
    "a reply that is cut off": [
        (
            "_engine.py",
            "if record.is_cut_off and self.schema is None:",
            "if False:",
        ),
        (
            "_engine.py",
            "            if record.is_cut_off:\n                raise invalid(record, problems",
            "            if False:\n                raise invalid(record, problems",
        ),
    ],
    "a refusal": [("_engine.py", "if record.is_refusal:", "if False:"), ROWS_GO_ON],
    "no choices": [("_replies.py", "if some and choices else {}", "if some else {}")],
    "an answer that is blank": [
        ("_obtain.py", "if not answer.record.is_blank and not answer.cached:", "if True:")
    ],
    "an answer with an error in it": [
        ("_replies.py", "if unfinished := _unfinished(reason, url):", "if False:")
    ],
    "an answer that the end of the context cut": [
        ("_replies.py", "if unfinished := _unfinished(reason, url):", "if False:")
    ],
    "server gone half-way": [NO_CONNECTION],
    "budget reached": [
        ("_ledger.py", "if limit is not None and used + more > limit:", "if False:")
    ],
    "disk full": [("_store.py", 'elif "full" in text', "elif False")],
    "disk full for answers alone": [
        (
            "_obtain.py",
            "except CacheError as error:\n            self.n",
            "except OSError as error:\n            self.n",
        )
    ],
    "cache file locked": [("_store.py", 'if "locked" in text or', "if")],
    "cache file read-only": [
        (
            "_obtain.py",
            "except CacheError:  # the answer is paid for",
            "except OSError:  # the answer is paid for",
        )
    ],
    "cache file overwritten": [("_store.py", 'or "not a database" in text', "")],
    "cache file torn": [("_store.py", 'elif "malformed" in text', "elif False")],
    "an entry of the cache damaged": [("_store.py", "if record is None:", "if False:")],
}


def main(faults):
    survivors = []
    for fault in faults:
        cells = [f"{fault}-{name}" for name in ENTRIES if is_handled(fault, name)]
        failed = failed_without(fault, cells)
        survivors += [cell for cell in cells if cell not in failed]
        print(f"{fault:45} {len(failed):3} of {len(cells):3} cells fail", flush=True)
    print("\n".join(["", *survivors, f"{len(survivors)} cells pass without the handling"]))
    return 1 if survivors else 0


def is_handled(fault, entry):
    """Whether the fault reaches this entry at all: a text cannot be of the wrong form."""
    cells = FAULTS[fault].cells
    reads = ENTRIES[entry].reads
    free = {"text"} | ({"letter"} if fault.startswith(("400", "no log")) else set())
    free |= {"json", "rows", "proposals"} if fault == "no log-probabilities" else set()
    return not (isinstance(cells, dict) and reads in free and FAULTS[fault].cell(reads) == RESULT)


def failed_without(fault, cells):
    """Run cells on a copy of the package without the handling; which of them fail."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("skllmreg", "tests"):
            shutil.copytree(ROOT / part, folder / part)
        shutil.copy(ROOT / "pyproject.toml", folder)
        for file, there, instead in HANDLING[fault]:
            path = folder / "skllmreg" / "llm" / file
            text = path.read_text()
            if text.count(there) != 1:
                raise ValueError(f"{file} has {there!r} {text.count(there)} times")
            path.write_text(text.replace(there, instead))
        command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "--junitxml=report.xml"]
        command += ["-m", "slow or not slow"]
        command += [f"tests/faults/test_matrix.py::test_cell[{cell}]" for cell in cells]
        subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL)
        report = ET.parse(folder / "report.xml")
    return {
        case.get("name").removeprefix("test_cell[").removesuffix("]")
        for case in report.iter("testcase")
        if case.find("failure") is not None
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(FAULTS)))
