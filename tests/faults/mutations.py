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

WORDS_OF_SERVER = ("_refusal.py", "what = short_line(message, 500) or", "what =")
NO_CONNECTION = ("_client.py", "elif isinstance(error, openai.APIConnectionError):", "elif False:")
NO_RETRY = ("_client.py", "transient=not down, sent", "transient=False, sent")
BROKEN_OFF = (
    "_client.py",
    "except Exception as error:  # of httpx",
    "except ZeroDivisionError as error:  # of httpx",
)
NO_JSON = (
    "_record.py",
    "    except ValueError:\n        payload",
    "    except OSError:\n        payload",
)
NO_VOTES = ("_labels.py", "in enumerate(found) if row is None]", "in enumerate(found) if False]")
ROWS_GO_ON = (
    "../augmentation/_writers.py",
    "except LLMError as caught:",
    "except ZeroDivisionError as caught:",
)

# (file of skllmreg/llm, what stands there, what takes its place)
HANDLING = {
    "429, once": [("_refusal.py", "status in (408, 409, 429)", "status in (408, 409)")],
    "429, for good": [WORDS_OF_SERVER],
    "429 with Retry-After": [("_refusal.py", "retry_after=pause", "retry_after=None")],
    "429 with Retry-After of hours": [
        ("_refusal.py", "return max(0.0, seconds)", "return 0.0 * seconds")
    ],
    "500, once": [("_refusal.py", "status >= 500 and", "status >= 600 and")],
    "500, for good": [WORDS_OF_SERVER],
    "connection reset, once": [NO_RETRY],
    "connection reset, for good": [NO_CONNECTION],
    "no answer in time, once": [NO_RETRY],
    "no answer in time, for good": [("_client.py", "if late and now.sent:", "if False:")],
    "slow drip, once": [("_client.py", '{problem}.", transient=True', '{problem}."')],
    "slow drip, for good": [("_client.py", "is still sending its reply", "is slow")],
    "body broken off, once": [BROKEN_OFF],
    "body broken off, for good": [BROKEN_OFF],
    "body no JSON, once": [NO_JSON],
    "body no JSON, for good": [NO_JSON],
    "a web page with status 200": [("_record.py", "if is_web_page(text):", "if False:")],
    "400 for a parameter that you set": [WORDS_OF_SERVER],
    "400 for a parameter that the package adds": [
        ("_structured.py", "if not about_form or", "if True or"),
        ("_labels.py", "refused = error.status in NOT_SUPPORTED", "refused = False"),
    ],
    "400 of a content filter, for one prompt": [
        ("_call.py", "if not is_about_prompt(error):", "if True:"),
        ("_structured.py", " and not is_about_prompt(error)", ""),
    ],
    "no log-probabilities": [NO_VOTES],
    "a reply of the wrong form, once": [
        ("_call.py", "MAX_REPAIRS = 2", "MAX_REPAIRS = 0"),
        NO_VOTES,
    ],
    "a reply of the wrong form, three times": [("_call.py", "MAX_REPAIRS = 2", "MAX_REPAIRS = 5")],
    "a reply that is cut off": [
        (
            "_call.py",
            "schema is None and not self.first_token",
            "schema is None and self.first_token",
        ),
        ("_call.py", '            if reason == "length":\n', "            if False:\n"),
    ],
    "a refusal": [
        ("_call.py", 'if record["refusal"] or reason == "content_filter":', "if False:"),
        ROWS_GO_ON,
    ],
    "no choices": [("_record.py", "choices[0] if choices else {}", "choices[0]")],
    "server gone half-way": [NO_CONNECTION],
    "budget reached": [
        ("_ledger.py", "if limit is not None and used + more > limit:", "if False:")
    ],
    "disk full": [("_cache.py", 'elif "full" in text', "elif False")],
    "disk full for answers alone": [
        (
            "_source.py",
            "except CacheError as error:\n            self.n",
            "except OSError as error:\n            self.n",
        )
    ],
    "cache file locked": [("_cache.py", 'if "locked" in text or', "if")],
    "cache file read-only": [
        (
            "_source.py",
            "except CacheError:\n            return",
            "except OSError:\n            return",
        )
    ],
    "cache file overwritten": [("_cache.py", 'or "not a database" in text', "")],
    "cache file torn": [("_cache.py", 'elif "malformed" in text', "elif False")],
    "an entry of the cache damaged": [("_cache.py", "if not isinstance(record, dict) or", "if")],
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
