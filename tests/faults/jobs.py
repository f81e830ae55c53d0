"""Work that is done in processes of its own, to be killed and to meet others at one cache."""

import faulthandler
import json
import multiprocessing
import os
import random
import signal
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

from skllmreg import GOLDAugmenter, LLKDSelector, elicit_attributions
from skllmreg.llm import ChatModel, _store
from tests.faults.entries import LABELS, TASK, TEXTS, teacher

CONCURRENCY = 4
PATIENCE = 120  # seconds after which somebody is stuck, also on a busy machine


def elicitation(llm):
    """Scores of 120 features, asked for in two parts, for each of three classes, five times."""
    attributions = elicit_attributions(
        llm,
        task=TASK,
        feature_names=[f"symptom {i}" for i in range(120)],
        classes=["a", "b", "c"],
        n_estimates=5,
    )
    return attributions.mean()


def annotation(llm):
    """A student chooses texts for the LLM to label, round by round."""
    texts = [f"Where is {thing} {i}?" for i in range(15) for thing in ("parcel", "money back")]
    model = LLKDSelector(
        teacher=teacher(llm), max_teacher_calls=24, n_rounds=4, tol=0, random_state=0
    )
    model.fit(texts)
    return sorted(map(str, zip(texts, model.teacher_proba_.tolist(), strict=True)))


def generation(llm):
    """Rows on what they can differ in, near rows that the student finds unfamiliar."""
    model = GOLDAugmenter(
        llm=llm, task=TASK, n_rounds=4, n_batches=2, n_novel_batches=2, random_state=0
    )
    return list(model.fit_resample(TEXTS, LABELS)[0])


JOBS = {"elicitation": elicitation, "annotation": annotation, "generation": generation}


def complete(llm, n=50):
    return [reply.text for reply in llm.complete([f"prompt {i}" for i in range(n)])]


def forks(llm):
    """Fork at random moments while threads ask; the children ask the same."""
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(complete, llm)
        children = []
        for _ in range(3):
            time.sleep(random.uniform(0, 0.04))
            if not (child := os.fork()):
                try:
                    complete(llm)
                    os._exit(0)
                except BaseException:
                    traceback.print_exc()
                    os._exit(1)
            children.append(child)
        asking.result()
    codes = [os.waitpid(child, 0)[1] for child in children]
    if any(codes):
        raise RuntimeError(f"children ended with {codes}")


def work(job, url, path, out=None, gate=None, lease=_store.LEASE):
    """Run a job, or wait at the gate and then run it; write down what came of it."""
    os.setpgrp()  # SIGUSR1 to this group shows where each process is, those that it forks too
    faulthandler.register(signal.SIGUSR1)
    _store.LEASE = lease
    llm = ChatModel("tiny", base_url=url, cache=path, temperature=0, max_concurrency=CONCURRENCY)
    if gate is not None:
        gate.wait(PATIENCE)  # for all to be there
    result = (JOBS | {"complete": complete, "forks": forks})[job](llm)
    if out is not None:
        out.write_text(json.dumps(result))


def processes():
    """Cheap real processes: forked from one that has imported everything and runs no thread."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.jobs", "openai", "sklearn.linear_model"])
    return context
