"""The example of Chinese news titles: its codes, its splits, and on the real titles what it learns and why."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from steelyard.records import SubjectSpec
from steelyard.subject.corruptions import CORRUPTIONS, corrupted
from steelyard.subject.engines.torch import TorchRunner
from steelyard.subject.load import load_subject

EXAMPLE = Path(__file__).parents[2] / "examples" / "chinese_news.py"


def loaded(folder):
    return load_subject(SubjectSpec(source=str(EXAMPLE), data=str(folder)))


def test_titles_become_codes_and_codes_logits(tmp_path):
    for name, count in (("train", 30), ("dev", 10), ("test", 10)):
        (tmp_path / f"{name}.txt").write_text("".join(f"{name}第{i}条新闻\t{i % 10}\n" for i in range(count)))
    (tmp_path / "class.txt").write_text("\n".join(loaded(tmp_path).contract.labels))
    subject = loaded(tmp_path)
    splits = subject.splits()
    assert [len(split) for _, split in splits.items()] == [30, 10, 10]
    inputs = splits.test.inputs(subject.contract)
    assert inputs.shape == (10, *subject.contract.shape)
    assert inputs.dtype == np.int64
    long, short = subject.encode(["字" * 50, "字"])
    assert len(set(long.tolist())) == 1
    assert short.tolist() == [long[0]] + [0] * (len(short) - 1)
    subject.model.eval()
    assert TorchRunner(subject.model)(inputs).shape == (10, 10)


@pytest.mark.needs_data
@pytest.mark.slow
def test_it_learns_the_topics_and_noise_costs_it_some(real_data):
    subject = loaded(real_data / "thucnews")
    splits = subject.splits()
    part = splits.train.take(np.arange(0, len(splits.train), 5))  # a fifth of the titles, for the sake of time
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two threads wait for each other where others use the processor too
    try:
        subject.fit(subject.model, dataclasses.replace(splits, train=part))
    finally:
        torch.set_num_threads(threads)
    subject.model.eval()

    def accuracy(split):
        with torch.inference_mode():
            outputs = subject.model(torch.from_numpy(split.inputs(subject.contract)))
        return float((outputs.argmax(1).numpy() == split.labels).mean())

    clean = accuracy(splits.test)
    assert clean > 0.65
    spoiled = [
        accuracy(corrupted(splits.test, CORRUPTIONS["homophone"], s, contract=subject.contract)) for s in (0, 2, 5)
    ]
    assert spoiled[0] == clean
    assert clean > spoiled[1] > spoiled[2] > 0.4
