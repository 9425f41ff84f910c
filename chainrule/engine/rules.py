"""The rules of the diagnoses, as data: what is looked at, from where on it is a finding, why, and what helps.

A point is a recorded epoch. A rule gives a verdict after `points` points in a row at which its quantity is beyond
`threshold` and its condition holds, and takes it back when the quantity is within `clear`, or the condition does not
hold any more. `examination` has the quantities themselves, by the same ids.

How the thresholds were found: `python -m benchmarks.diagnoses`, and docs/decisions.md.
"""

from dataclasses import dataclass

ABOVE, BELOW = "above", "below"
ERROR, WARNING, INFO = SEVERITIES = ("error", "warning", "info")
WINDOW = 11
"""How many points back a rule may look."""


@dataclass(frozen=True)
class Rule:
    """A rule.

    Attributes:
        id: its name.
        severity: error, warning or info.
        title: what it is, in a few words.
        quantity: what is looked at, as an equation.
        when: the condition under which it counts; empty if always.
        side: above or below the threshold is a finding.
        threshold: from where on.
        clear: within which it is over.
        points: how many points in a row.
        evidence: why this threshold.
        sentence: of a verdict, with {value}, {layer}, {threshold}.
        fix: what helps.
        source: where it is from.
        see: where the API shows more, below the run.
    """

    id: str
    severity: str
    title: str
    quantity: str
    when: str
    side: str
    threshold: float
    clear: float
    evidence: str
    sentence: str
    fix: str
    source: str
    see: str
    points: int = 2


NOTHING_LEARNED = "the error is above half of that of chance (regression: C > C₀/2)"
RULES = (
    Rule(
        "nonfinite", ERROR, "NaN or infinity",
        "numbers of C, W, b and the recorded gradients that are not finite", "",
        ABOVE, 0, 0,
        "None is ever right; the training ends with the first.",
        "A cost, a weight or a gradient was not finite in epoch {epoch}: the training ended.",
        "Lower the learning rate, clip the gradient (clip), and look for huge inputs or targets. Replaying the steps "
        "of the epoch names the first one: its step, quantity and layer.",
        "SageMaker Debugger, ExplodingTensor", "steps", points=1,
    ),
    Rule(
        "diverged", ERROR, "the cost grows",
        "the larger of C/(3·C_chance) and, once C > C_chance, C/(2·min C of the 3 points before)",
        "from epoch 1 on, and C > C₀",
        ABOVE, 1, 1 / 3,
        "tanh with η = 20: C = 177 at epoch 2 where chance has 2.3; healthy runs stay below chance.",
        "C is {value:.2g} times as large as it may be: the steps are too long, and the cost grows.",
        "Divide the learning rate by 10.",
        "study, 14 runs", "epochs",
    ),
    Rule(
        "vanishing", ERROR, "the error signal vanishes",
        "min over hidden l of RMS(dZ[l])/RMS(dZ[L])", NOTHING_LEARNED,
        BELOW, 1e-3, 3e-3,
        "Six sigmoid layers that never learn: at most 4e-4; healthy runs: at least 0.1. The ratio of ‖dW‖, as usually "
        "taken, misses it.",
        "RMS(dZ[{layer}]) is {value:.2g} of RMS(dZ[L]): hardly any error signal gets back to layer {layer}.",
        "Use relu or tanh, He or Xavier initialization, fewer layers, or normalization; with a sigmoid output "
        "cross-entropy.",
        "Nielsen (2015), chapter 5; study", "layers",
    ),
    Rule(
        "exploding", ERROR, "the error signal explodes",
        "the larger of max over hidden l of RMS(dZ[l])/RMS(dZ[L])/1000 and ‖ḡ‖/(10·its median over the points so far)",
        NOTHING_LEARNED,
        ABOVE, 1, 1 / 3,
        "Healthy runs: ratios of at most 3.",
        "The error signal is {value:.2g} times as large as it may be on its way back (layer {layer}).",
        "Clip the gradient, begin with smaller weights, or lower the learning rate.",
        "AUTOTRAINER (2021); study", "layers",
    ),
    Rule(
        "dead_relu", WARNING, "dead units",
        "max over l of the share of ReLU units that are 0 for every sample of the probe", "",
        ABOVE, 0.5, 0.4,
        "η = 3: 0.94 to 1; raw pixels: 0.69; healthy runs: at most 0.2.",
        "{value:.0%} of the units of layer {layer} are 0 for every sample: they learn nothing any more.",
        "Lower the learning rate, use leaky_relu, or scale the inputs.",
        "SageMaker Debugger, DeadRelu; study", "layers",
    ),
    Rule(
        "saturated", WARNING, "saturated units",
        "max over l of the share of A[l] with |a| > 0.97 (tanh) or outside of 0.02 … 0.98 (sigmoid)", "",
        ABOVE, 0.5, 0.4,
        "W ~ N(0, 1.5²): 0.81; raw pixels: 0.94; η = 20: 1; healthy runs: at most 0.1.",
        "{value:.0%} of the outputs of layer {layer} are saturated: g′(Z) is next to 0 there, and stops the gradient.",
        "Scale the inputs (inputs: standardize), begin with smaller weights, or lower the learning rate.",
        "Glorot and Bengio (2010); study", "layers",
    ),
    Rule(
        "lr_high", WARNING, "steps too long",
        "max over l of ‖ΔW[l]‖/‖W[l]‖ of the epoch's last step",
        "after epoch 1, C has not fallen over the last 3 points, and the error is above half of that of chance "
        "(regression: C > C₀/2)",
        ABOVE, 0.1, 0.1 / 3,
        "Healthy sigmoid networks begin with 0.1 and learn; hence the condition.",
        "A step changes W[{layer}] by {value:.0%} of its size, and the cost does not fall.",
        "Divide the learning rate by 3.",
        "cs231n; study", "gradients",
    ),
    Rule(
        "lr_low", WARNING, "steps too short",
        "max over l of ‖ΔW[l]‖/‖W[l]‖ of the epoch's last step",
        "after 3 epochs C is within 10 % of C₀, and some W has moved",
        BELOW, 5e-5, 1.5e-4,
        "η = 1e-4: 9e-6; the 1e-6 and 1e-8 of other tools miss it.",
        "A step changes W by {value:.1g} of its size at most, and the cost has hardly moved.",
        "Multiply the learning rate by 10.",
        "study", "gradients",
    ),
    Rule(
        "update_ratio", INFO, "unusual steps",
        "‖ΔW[l]‖/‖W[l]‖ of the epoch's last step, as a distance from 10^-4 … 0.03: u/0.03 or 10^-4/u, the largest",
        NOTHING_LEARNED,
        ABOVE, 1, 1 / 3,
        "A rough rule: healthy runs are at 2e-3 to 1e-2, and some outside.",
        "The steps of W[{layer}] are {value:.2g} times outside of what is usual.",
        "Nothing has to be done; if learning is slow or unsteady, begin with the learning rate.",
        "cs231n, \"about 1e-3\"", "gradients",
    ),
    Rule(
        "bad_start", WARNING, "a bad start",
        "C₀/C_chance", "at epoch 0, of a classifier",
        ABOVE, 1.5, 1.5,
        "W ~ N(0, 1.5²): 3.4; raw pixels: 5.9; healthy runs: at most 1.15.",
        "Untrained, the network costs {value:.2g} times what knowing nothing would: it begins sure of wrong answers.",
        "Scale the inputs, and begin with smaller weights (the default initializer).",
        "cs231n, sanity checks; study", "layers", points=1,
    ),
    Rule(
        "symmetric", ERROR, "units that are the same",
        "max over hidden l of the share of units whose row of W[l] and column of W[l+1] are those of another unit",
        "at epoch 0",
        ABOVE, 0, 0,
        "Zero weights in all layers: 1; random ones: 0. Zeros in one layer alone are no fault.",
        "{value:.0%} of the units of layer {layer} are copies of others and get the same gradient: they stay copies.",
        "Begin with random weights (he_normal, xavier_uniform).",
        "Goodfellow, Bengio and Courville (2016), 8.4", "layers", points=1,
    ),
    Rule(
        "no_signal", WARNING, "no signal above the noise",
        "|G|²/‖ḡ‖², |G|² = ‖ḡ‖² − tr Σ/m", f"at least 256 samples in the probe, and {NOTHING_LEARNED}",
        BELOW, 0, 0.05,
        "All four runs of the study that never learned; those that have learned come to it too, hence the condition.",
        "The samples' gradients cancel out: their mean is within their noise.",
        "See what else is found: vanishing signals, dead units, or weights that are all the same leave none.",
        "McCandlish et al. (2018), A.1; study", "layers",
    ),
    Rule(
        "one_class", WARNING, "few classes predicted",
        "(p − 1)/(K − 1), where p of the K classes are the answer to some sample of the probe",
        f"from epoch 2 on, at least 10 samples a class in the probe, and {NOTHING_LEARNED}",
        BELOW, 0.5, 0.6,
        "Runs that stay at the error of chance answer one class; healthy ones all.",
        "The network answers only {predicted} of {classes} classes.",
        "See what else is found; an output bias that runs ahead of the weights passes.",
        "study", "samples",
    ),
    Rule(
        "batch_small", INFO, "noisy steps",
        "B_simple/(20·B)", "at least 256 samples in the probe",
        ABOVE, 1, 1 / 3,
        "An order of magnitude only; healthy runs have B_simple ≈ B.",
        "The noise scale is {noise:.3g} and the batch {batch}: single steps are mostly noise.",
        "A larger batch, or a smaller learning rate, makes steadier steps.",
        "McCandlish et al. (2018)", "coherence",
    ),
    Rule(
        "batch_large", INFO, "a generous batch",
        "B/(10·B_simple)", "at least 256 samples in the probe",
        ABOVE, 1, 1 / 3,
        "An order of magnitude only.",
        "The noise scale is {noise:.3g} and the batch {batch}: a smaller one would cost little progress a step.",
        "A smaller batch gets further in the same time.",
        "McCandlish et al. (2018)", "coherence",
    ),
    Rule(
        "overfit", WARNING, "overfitting",
        "C_val/min C_val so far", "C is below what it was at the best epoch",
        ABOVE, 1.15, 1.05,
        "100 samples, a fifth of them labelled wrong: it only grows; healthy runs may touch 1.15 and come back, hence "
        "4 points.",
        "The validation cost is {value:.2g} times what it was at epoch {best}, while the cost still falls.",
        "Stop at epoch {best} (early_stopping), add a penalty (regularization), dropout, or more data.",
        "Prechelt (1998), \"Early stopping, but when?\"; study", "epochs", points=4,
    ),
    Rule(
        "plateau", WARNING, "the cost stands still",
        "|C − C of 5 points before|/C", NOTHING_LEARNED,
        BELOW, 1e-3, 3e-3,
        "Runs that never learn: below 1e-4; healthy ones fall by percents.",
        "The cost has moved by {value:.1g} of itself over 5 points, and little is learned.",
        "See what else is found; else a larger learning rate, another optimizer or a wider network.",
        "AUTOTRAINER, slow convergence; study", "epochs",
    ),
    Rule(
        "oscillating", WARNING, "the cost goes up and down",
        "share of the last 10 points at which ΔC changes its sign, where half of them or more move C by 3 %",
        "C > C_chance/20 (regression: C₀/20)",
        ABOVE, 0.5, 0.3,
        "AUTOTRAINER: an amplitude of 3 %; healthy runs fall, and rise only where little is left to learn.",
        "The cost changes its direction at {value:.0%} of the points.",
        "Lower the learning rate, or take larger batches.",
        "AUTOTRAINER (2021)", "epochs",
    ),
    Rule(
        "input_scale", WARNING, "inputs of unlike or large size",
        "the larger of max |A[0]|/10 and σ_max/σ_min of A[0]/1000", "at epoch 0",
        ABOVE, 1, 1,
        "Pixels of 0 … 16, raw: 1.6; scaled: 0.1.",
        "The network's inputs are {value:.2g} times as large, or as unlike, as they should be.",
        "Scale them (inputs: standardize, or minmax).",
        "LeCun et al. (1998), \"Efficient backprop\", 4.3", "inputs", points=1,
    ),
    Rule(
        "rare_class", WARNING, "a rare class",
        "10·K·the share of the rarest class", "at epoch 0, of a classifier",
        BELOW, 1, 1,
        "Below a tenth of its even share, a class is hardly seen.",
        "The rarest class has {value:.2g} tenths of its even share of the samples.",
        "Weigh classes (class_weights: balanced), and look at recall instead of the error.",
        "study", "metrics", points=1,
    ),
    Rule(
        "loss_mismatch", INFO, "a cost that slows the output down",
        "1 where cost mse meets a sigmoid or softmax output", "at epoch 0",
        ABOVE, 0, 0,
        "dZ[L] = (A − Y) ⊙ g′(Z[L]): sure but wrong outputs learn slowest.",
        "The cost is mse and the output {output}: g′(Z[L]) makes dZ[L] small just where the network is sure and wrong.",
        "Use cost cross_entropy, where dZ[L] = A − Y.",
        "Nielsen (2015), chapter 3", "layers", points=1,
    ),
)  # fmt: skip
BY_ID = {rule.id: rule for rule in RULES}
