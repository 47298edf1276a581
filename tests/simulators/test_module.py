"""Modules as machines: any torch module that answers each image for itself, whatever its type; others at the door."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import random_images
from torch import nn

from mapping import Refusal
from simulators.module import ModuleMachine

SHAPE = (1, 8, 8)


def linear(classes=10, seed=0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))


class Odd(nn.Module):
    """Passes images and the logits of a linear model through a function."""

    def __init__(self, change):
        super().__init__()
        self.inner, self.change = linear(), change

    def forward(self, x):
        return self.change(x, self.inner(x))


def darken(x, z):
    x.mul_(0.5)
    return z


def stumble(x, z):
    raise KeyError("a\nb" * 1000)


BAD = {
    "five classes": (linear(5), "no logits"), "twelve classes": (linear(12), "no logits"),
    "a tuple": (Odd(lambda x, z: (z, z)), "no logits.*tuple"), "a dict": (Odd(lambda x, z: {"logits": z}), "dict"),
    "numpy": (Odd(lambda x, z: z.detach().numpy()), "ndarray"), "nothing": (Odd(lambda x, z: None), "NoneType"),
    "another batch": (Odd(lambda x, z: z[:1]), r"no logits.*\(1, 10\)"), "a row": (Odd(lambda x, z: z[0]), "no logits"),
    "one squeezed away": (Odd(lambda x, z: z.squeeze()), r"no logits.*\(10,\)"),
    "a map": (Odd(lambda x, z: z[..., None]), "no logits"), "classes": (Odd(lambda x, z: z.argmax(1)), "no logits"),
    "whole numbers": (Odd(lambda x, z: z.long()), "not finite floats"),
    "nan": (Odd(lambda x, z: z * torch.nan), "not finite"), "infinite": (Odd(lambda x, z: z / 0), "not finite"),
    "raises": (Odd(stumble), "the module fails; got KeyError"), "in place": (Odd(darken), "changes its images"),
    "another shape": (nn.Linear(63, 10), "the module fails"), "no module": (lambda x: x, "no module"),
    "random": (Odd(lambda x, z: z + torch.rand_like(z)), "otherwise"),
    "the batch's statistics": (Odd(lambda x, z: z - z.mean(0)), "otherwise"),
    "two types": (nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 10).double()), "the module fails"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_answer_is_refused_at_the_door(name):
    module, words = BAD[name]
    with pytest.raises(Refusal, match=words) as refused:
        ModuleMachine(module, SHAPE, 10, "mine")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 800


@pytest.mark.parametrize(("kind", "close"), [(torch.float16, 2e-2), (torch.bfloat16, 1e-1), (torch.float64, 1e-6)])
def test_modules_of_any_precision_answer_as_floats(kind, close):
    machine, images = ModuleMachine(linear().to(kind), SHAPE, 10), random_images(5).requires_grad_()
    end, wanted = machine.relax(images), linear()(images)
    assert end.logits.dtype == torch.float32
    assert torch.allclose(end.logits, wanted, atol=close)
    slopes = [torch.autograd.grad(logits[:, 3].sum(), images)[0] for logits in (end.logits, wanted)]
    assert torch.allclose(*slopes, atol=close)
    assert machine.cost().operations == 640


@given(st.sampled_from([torch.float16, torch.float32, torch.float64]), st.integers(0, 4))
def test_images_of_any_float_type_are_answered(kind, batch):
    machine, images = ModuleMachine(linear(), SHAPE, 10), random_images(batch)
    end = machine.relax(images.to(kind))
    assert end.logits.shape == (batch, 10)
    assert torch.allclose(end.logits.float(), linear()(images), atol=1e-2 if kind == torch.float16 else 1e-6)


def test_a_module_may_lack_parameters_and_gradients():
    bare = ModuleMachine(nn.Sequential(nn.AvgPool2d((1, 4)), nn.Flatten(), nn.Softmax(1)), (1, 5, 8), 10)
    assert bare.differentiable
    assert not ModuleMachine(Odd(lambda x, z: z.detach()), SHAPE, 10).differentiable
    assert not ModuleMachine(Odd(lambda x, z: torch.from_numpy((z * 1).detach().numpy())), SHAPE, 10).differentiable


def test_an_answer_that_turns_bad_later_is_refused_then():
    machine = ModuleMachine(Odd(lambda x, z: z / (x.amax((1, 2, 3)) > 0)[:, None]), SHAPE, 10)
    with pytest.raises(Refusal, match="not finite"):
        machine.relax(torch.zeros(2, *SHAPE))
