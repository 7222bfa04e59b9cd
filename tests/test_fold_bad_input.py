"""Every refusal of folding: one sentence with the function, the argument, what came and what is needed."""

import contextlib
import re

import bnpp
import numpy as np
import pytest

A = bnpp.Affine
W = np.ones((6, 4, 3, 3), np.float32)
M = np.ones((6, 4), np.float32)


def conv(weight=W, bias=None, **keywords):
    return bnpp.fold_conv(weight, bias, **({"after": A.identity(6)} | keywords))


def linear(weight=M, bias=None, **keywords):
    return bnpp.fold_linear(weight, bias, **({"after": A.identity(6)} | keywords))


def conv_backward(dweight=W, dbias=None, weight=W, **keywords):
    return bnpp.fold_conv_backward(dweight, dbias, weight, **({"after": A.identity(6)} | keywords))


# call, exception, words of the message in their order
REFUSED = {
    "no map": (lambda: conv(after=None), ValueError, "fold_conv: neither after nor before is given"),
    "no weight": (lambda: conv(None), TypeError, "fold_conv: weight is None"),
    "integer weight": (lambda: conv(W.astype(int)), TypeError, "fold_conv: weight has dtype int64"),
    "masked weight": (lambda: linear(np.ma.ones((6, 4))), TypeError, "fold_linear: weight is a masked"),
    "short bias": (lambda: conv(bias=np.ones(5)), ValueError,
                   r"fold_conv: bias has 5 values, but weight has 6 output channels \(layout 'OIHW', groups 1\)"),
    "2-D bias": (lambda: conv(bias=np.ones((6, 1))), ValueError,
                 r"fold_conv: bias has shape \(6, 1\), but it needs one dimension"),
    "short after": (lambda: conv(after=A.identity(5)), ValueError,
                    r"fold_conv: after has 5 channels, but weight has 6 output channels"),
    "long before": (lambda: linear(before=A.identity(7)), ValueError,
                    r"fold_linear: before has 7 channels, but weight has 4 input channels"),
    "before of a group": (lambda: conv(before=A.identity(4), groups=2), ValueError,
                          r"before has 4 channels, but weight has 8 input channels \(layout 'OIHW', groups 2\)"),
    "array as map": (lambda: conv(after=np.ones(6)), TypeError,
                     "fold_conv: after is of type ndarray, but a bnpp.Affine is needed"),
    "groups do not divide": (lambda: conv(groups=4), ValueError,
                             r"groups is 4, but it needs to divide the 6 output channels of weight \(axis 0\)"),
    "transposed groups": (lambda: conv(layout="IOHW", transposed=True, groups=4), ValueError,
                          "groups is 4, but it needs to divide the 6 input channels"),
    "groups 0": (lambda: conv(groups=0), ValueError, "groups is 0, but it needs to be at least 1"),
    "groups 2.0": (lambda: conv(groups=2.0), TypeError, "groups is 2.0, but it needs to be an integer"),
    "groups beside G": (lambda: conv(np.ones((3, 2, 4, 3)), layout="GOIW", groups=2), ValueError,
                        "groups is 2, but weight has 3 along its G axis"),
    "unknown letter": (lambda: conv(layout="OIHX"), ValueError, "layout is 'OIHX', but it needs different letters"),
    "letter twice": (lambda: conv(layout="OIHH"), ValueError, "layout is 'OIHH', but it needs different letters"),
    "no letters": (lambda: conv(layout=""), ValueError, "layout is empty"),
    "small letters": (lambda: conv(layout="oihw"), ValueError, "layout is 'oihw'"),
    "no I": (lambda: conv(layout="OHWD"), ValueError, "layout is 'OHWD', but without a G it needs both O and I"),
    "layout too short": (lambda: conv(layout="OIW"), ValueError,
                         "layout 'OIW' names 3 axes, but weight has 4 dimensions"),
    "layout 1": (lambda: conv(layout=1), TypeError, "layout is of type int, but it needs to be a string"),
    "linear layout": (lambda: linear(layout="OIHW"), ValueError,
                      "layout is 'OIHW', but it needs to be 'OI' or 'IO'"),
    "2-D convolution": (lambda: conv(M), ValueError, "weight has 2 dimensions, but a convolution's has 3 to 5"),
    "6-D convolution": (lambda: conv(np.ones((6, 4, 1, 1, 1, 1))), ValueError,
                        "weight has 6 dimensions, but a convolution's has 3 to 5"),
    "4-D linear": (lambda: linear(W), ValueError, "layout 'OI' names 2 axes, but weight has 4 dimensions"),
    "1-D linear": (lambda: linear(np.ones(6)), ValueError, "names 2 axes, but weight has 1 dimension$"),
    "number as weight": (lambda: linear(1.0), ValueError, "weight is a single number"),
    "padding text": (lambda: conv(padding="full"), ValueError, "fold_conv: padding is 'full', but 'valid'"),
    "padding 1.5": (lambda: conv(padding=1.5), TypeError, "fold_conv: padding is 1.5, but integers are needed"),
    "padding uneven": (lambda: conv(padding=[[0], [0, 1]]), TypeError, "padding is .*, but integers"),
    "padding None": (lambda: conv(padding=(0, None)), TypeError, r"padding is \(0, None\), but integers"),
    "weight overflows": (lambda: linear(M * 1e38, after=A(np.full(6, 100.0), np.zeros(6))), ValueError,
                         r"the folded weight of output channel 0 is 1e\+40, too large for float32"),
    "bias overflows": (lambda: linear(after=A(np.ones(6), np.array([0, 0, 1e39, 0, 0, 0]))), ValueError,
                       r"the folded bias of output channel 2 is 1e\+39, too large for float32"),
    "gradient's shape": (lambda: conv_backward(W[:5]), ValueError,
                         r"fold_conv_backward: dweight has shape \(5, 4, 3, 3\), but it needs weight's \(6, 4, 3, 3\)"),
    "gradient's dtype": (lambda: conv_backward(W.astype("f8")), TypeError,
                         "fold_conv_backward: dweight has dtype float64, but it needs weight's float32"),
    "gradient's bias": (lambda: conv_backward(dbias=np.ones(5)), ValueError, "dbias has 5 values, but weight has 6"),
    "no gradient": (lambda: conv_backward(None), TypeError, "fold_conv_backward: dweight is None"),
    "backward's padding": (lambda: conv_backward(before=A(np.ones(4), np.ones(4)), padding=1), ValueError,
                           "fold_conv_backward: before has shift 1 in channel 0"),
    "affine: short gamma": (lambda: bnpp.affine(np.ones(3), None, np.ones(4), np.ones(4)), ValueError,
                            "affine: gamma has 3 values, but var has 4"),
    "affine: no var": (lambda: bnpp.affine(None, None, np.ones(4), None), TypeError, "affine: var is None"),
    "affine: no mean": (lambda: bnpp.affine(None, None, None, np.ones(4)), TypeError, "affine: mean is None"),
    "affine: negative var": (lambda: bnpp.affine(None, None, np.ones(2), [1.0, -2.0]), ValueError,
                             r"affine: var\[1\] is -2, but variances need to be >= 0"),
    "affine: eps": (lambda: bnpp.affine(None, None, np.ones(2), np.ones(2), -1.0), ValueError, "affine: eps is -1"),
    "affine: 2-D": (lambda: bnpp.affine(None, None, np.ones(2), np.ones((2, 1))), ValueError,
                    r"affine: var has shape \(2, 1\), but it needs one dimension"),
    "Affine: lengths": (lambda: A([1.0], [1.0, 2.0]), ValueError, "Affine: shift has 2 values, but scale has 1"),
    "Affine: number": (lambda: A(1.0, 2.0), ValueError, "Affine: scale is a single number"),
    "Affine: integers": (lambda: A([1], [2]), TypeError, "Affine: scale has dtype int64"),
    "composition": (lambda: A.identity(2) @ A.identity(3), ValueError, "first has 3 channels, but second has 2"),
    "composition with an array": (lambda: A.identity(2) @ np.ones(2), (TypeError, ValueError), ""),
    "take": (lambda: A.identity(2).take([0, 2]), ValueError, r"take: indices\[1\] is 2, but the map has 2"),
    "take -1": (lambda: A.identity(2).take([-1]), ValueError, r"take: indices\[0\] is -1"),
    "take 0.5": (lambda: A.identity(2).take([0.5]), TypeError, "take: indices has dtype float64"),
    "take 2-D": (lambda: A.identity(2).take([[0]]), ValueError, "take: indices has 2 dimensions"),
    "repeat": (lambda: A.identity(2).repeat(-1), ValueError, "repeat: count is -1"),
    "split": (lambda: A.identity(4).split([1, 2]), ValueError, r"split: sizes is \[1, 2\].*4 channels"),
    "split negative": (lambda: A.identity(4).split([5, -1]), ValueError, r"split: sizes is \[5, -1\]"),
    "concat": (lambda: A.concat([A.identity(2), 3]), TypeError, r"Affine.concat: maps\[1\] is of type int"),
    "identity": (lambda: A.identity(-1), ValueError, "negative"),
    "call: channels": (lambda: A.identity(3)(M), ValueError, "Affine: the map has 3 channels, but x has 4 along axis 1"),
    "call: axis": (lambda: A.identity(4)(M, axis=2), ValueError, "Affine: axis is 2, but x has 2 dimensions"),
    "call: 1-D": (lambda: A.identity(4)(np.ones(4)), ValueError, "Affine: x has 1 dimension"),
    "call: out": (lambda: A.identity(4)(M, out=np.ones((6, 3), "f4")), ValueError, "Affine: out has shape"),
    "call: out dtype": (lambda: A.identity(4)(M, out=np.ones((6, 4))), TypeError, "Affine: out has dtype float64"),
    "call: out overlaps": (lambda: A.identity(4)(M[1:], out=M[:-1]), ValueError, "out shares memory with x"),
    "gradients' length": (lambda: bnpp.affine_backward(([1.0], [1.0, 2.0]), None, np.ones(2), np.ones(2)),
                          ValueError, "affine_backward: dscale has 1 value, but var has 2"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what):
    call, exception, words = REFUSED[what]
    with pytest.raises(exception) as caught:
        call()
    message = str(caught.value)
    assert re.search(words, message), message
    assert "\n" not in message
    assert np.all(W == 1)
    assert np.all(M == 1)


def test_maps_and_options_are_keywords_only():
    with pytest.raises(TypeError, match="positional"):
        bnpp.fold_conv(W, None, A.identity(6))
    with pytest.raises(TypeError, match="positional"):
        bnpp.fold_linear(M, None, A.identity(6))
    with pytest.raises(TypeError, match="positional"):
        A.identity(4)(M, 1)


def test_nothing_crashes_the_process():
    """Odd arrays and objects in every place of the private module, which no wrapper guards."""
    a = bnpp.Affine.identity(2)._map
    odd = [None, 0, "x", b"x", 1.5, object(), [], {}, a, [a, a], np.ones((2, 2)), np.ones(0),
           np.array("x"), np.zeros((0, 0)), np.ones((2, 3), "c8"), np.ones((1,) * 9), 2**70]  # fmt: skip
    takes = {"new_affine": 2, "restore_affine": 4, "affine": 5, "compose_affine": 2,
             "invert_affine": 1, "take_affine": 2, "concat_affine": 1, "apply_affine": 4,
             "affine_backward": 6, "fold": 9, "fold_backward": 11}  # fmt: skip
    for name, count in takes.items():
        function = getattr(bnpp._core, name)
        for value in odd:
            with contextlib.suppress(TypeError, ValueError, OverflowError):
                function(*[value] * count)
            with contextlib.suppress(TypeError, ValueError, OverflowError):
                function(a, *[value] * (count - 1))
            with contextlib.suppress(TypeError, ValueError, OverflowError):
                function(True, *[value] * (count - 1))
    with pytest.raises(TypeError):
        bnpp._core.AffineMap()
