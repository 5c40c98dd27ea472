"""Guided images by transformers' ``generate``: what ``bench_sample`` runs in turns with our own sampler.

Nothing of ours is imported. The model is a folder in Chameleon's layout; its class gives image ids no chance,
which :class:`Drawing` leaves out. Guidance is theirs (``guidance_scale``, ``negative_prompt_ids``), one more
forward pass a token with a cache of its own, and so is top-p. Three ways to keep keys and values:

``dynamic``  as ``generate`` does by itself: ``num_return_sequences`` copies of the prompt are read
``static``   the same with ``cache_implementation="static"``
``prefix``   the prompt is read once, and its cache repeated for every sample: their prefix caching. It is
             dynamic; a static one cannot be repeated (transformers 5.24)

Prints JSON as its last line.

Shapes: N samples, T tokens, V ids.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import torch
from torch import Tensor
from transformers import ChameleonForConditionalGeneration, DynamicCache, LogitsProcessor, LogitsProcessorList

WARM_UP = 3
"""Tokens drawn before the clock runs."""


class Drawing(ChameleonForConditionalGeneration):
    """Image ids keep their logits: ``forward`` masks those that are listed, and none is."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model.vocabulary_mapping.image_tokens = torch.empty(0, dtype=torch.int64)


class ImagesAlone(LogitsProcessor):
    """Ids below ``first`` may not come next. Tells when it was first asked: the prompt is read by then."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.asked_at: float | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        del input_ids
        self.asked_at = self.asked_at or time.perf_counter()
        scores[:, : self.first] = -torch.inf
        return scores


def drawn(model: Drawing, given: dict[str, Any], num_tokens: int, rule: ImagesAlone) -> Any:
    """What ``generate`` answers for ``samples`` images of the prompt."""
    prompt_1T, samples = torch.tensor([given["prompt"]]), given["samples"]
    words: dict[str, Any] = {"num_return_sequences": samples}
    if given["cache"] == "static":
        words["cache_implementation"] = "static"
    if given["cache"] == "prefix":
        cache = DynamicCache(config=model.config)
        model.model(prompt_1T[:, :-1], cache=cache, use_cache=True)
        cache.batch_repeat_interleave(samples)
        prompt_1T, words = prompt_1T.repeat(samples, 1), {"cache": cache}
    choice = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": given["top_p"]}
    return model.generate(
        prompt_1T,
        attention_mask=torch.ones_like(prompt_1T),
        negative_prompt_ids=torch.tensor([given["away"]] * samples),
        guidance_scale=given["guidance"],
        logits_processor=LogitsProcessorList([rule]),
        min_new_tokens=num_tokens,
        max_new_tokens=num_tokens,
        eos_token_id=None,
        **({"do_sample": False} if given["greedy"] else choice),
        output_scores=given["greedy"],
        return_dict_in_generate=True,
        **words,
    )


@torch.inference_mode()
def main(given: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(given["threads"])
    torch.manual_seed(0)
    model = Drawing.from_pretrained(given["folder"], dtype=torch.float32).eval()
    if not given["greedy"]:
        drawn(model, {**given, "prompt": given["prompt"][:64]}, WARM_UP, ImagesAlone(given["first_image"]))
    rule = ImagesAlone(given["first_image"])
    began = time.perf_counter()
    answer = drawn(model, given, given["num_tokens"], rule)
    ended = time.perf_counter()
    assert rule.asked_at is not None  # generate asks it for every token
    told = {"wall": ended - began, "read": rule.asked_at - began}
    if given["greedy"]:
        scores_NTV = torch.stack(answer.scores, dim=1)[..., given["first_image"] :].log_softmax(dim=-1)
        torch.save((answer.sequences[:, len(given["prompt"]) :], scores_NTV), given["saved"])
    return told


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("given", type=json.loads)
    sys.stdout.write(json.dumps(main(parser.parse_args().given)) + "\n")
