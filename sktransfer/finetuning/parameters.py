"""Parameters of fine-tuning that several estimators share."""

from __future__ import annotations

from sktransfer._parameters import Parameter
from sktransfer.engine import parameters as engine

__all__ = [
    "BY_TASK",
    "CALLBACKS_BY_TASK",
    "CALLBACKS_WITHOUT_SCORES",
    "CLASSIFICATION",
    "CRITERION",
    "END",
    "HEAD",
    "HEAD_LR",
    "INPUT",
    "MULTITASK",
    "ONE_BACKBONE",
    "RECIPE",
    "SCHEDULE",
    "TASKS",
    "TRAINED_DEPTH",
    "TRAINING",
    "UNFREEZING",
    "VALIDATION",
]

ONE_BACKBONE = engine.BACKBONE.replace(
    default="auto",
    description="""A name or a loaded backbone, such as `clf.backbone_` of a fitted `FineTuneClassifier`.
    `list_backbones()` lists the names, and `"hf/<hub id or local folder>"` loads models of transformers. The modality
    of the backbone decides whether X holds images or texts. "auto" is "tiny/bert" if X holds texts, and "tiny/cnn"
    otherwise.""",
)
TRAINED_DEPTH = Parameter(
    "freeze_depth",
    -1,
    "int, float, str or dict",
    """Number of frozen stages, counted from the input. An int is a Python slice, `stages[:freeze_depth]`: 0 trains all
    stages, 1 freezes one stage, -1 all but the last. A float f in [0, 1) freezes floor(f * n), so that one grid serves
    backbones of different depth. A name freezes up to and with that stage. At least one stage is trained.""",
)
INPUT = [
    ONE_BACKBONE.replace(
        description=ONE_BACKBONE.description
        + """ `Backbone.join` makes one for rows of several columns. The parameters `preprocess`, `max_length`, `layer`,
        `pooling`, `freeze_depth` and `augment` may then be dicts by column.""",
    ),
    engine.WEIGHTS,
    engine.PREPROCESS,
    engine.IMAGE_SHAPE,
    engine.MAX_LENGTH,
    engine.LAYER.replace(
        description="""Stage whose output the head reads. "auto" weighs all stages by how well they predict y
        (`layer_`). Otherwise an index (-1 is the last stage), a name, a list (concatenated) or "all". Stages above the
        highest of them are dropped. "mix" adds all stages up by learned weights (`layer_weights_`) [2]_, if their
        features are of equal width."""
    ),
    engine.POOLING,
    Parameter(
        "freeze_depth",
        -1,
        "int, float, str or dict",
        """Number of frozen stages, counted from the input. An int is a Python slice, `stages[:freeze_depth]`: 0 trains
        all stages, 1 freezes one stage, -1 all but the last. A float f in [0, 1] freezes floor(f * n), so that one grid
        serves backbones of different depth: 1.0 freezes all. A name freezes up to and with that stage, "all" freezes
        all. "auto" trains as -1 does, but only if this lowers the loss of a fifth of the samples, held back in a trial,
        by more than its standard error. If not, or with fewer than 50 samples, all are frozen and the initial head is
        kept. It takes up to twice the time, and no trial if `early_stopping` decides (`freeze_depth_`, `report_`).""",
    ),
]

HEAD = [
    Parameter(
        "head",
        "linear",
        '"linear" or Head',
        """"linear" makes a new head. The `head_` of a fitted estimator is continued, if classes and features agree.""",
    ),
    Parameter(
        "head_init",
        "probe",
        '{"probe", "class_means", "random"}',
        """Initialization of a new head: "probe" fits a linear model to the pretrained features [1]_, "class_means"
        predicts the nearest class mean, "random" draws the weights.""",
    ),
]

TRAINING = [
    Parameter(
        "max_epochs",
        10,
        'int or "auto"',
        """Number of passes over the samples. 0 keeps the initial head. "auto" makes 10 passes, or fewer if they take
        more than 1,000 steps, but at least 3 (`n_iter_`).""",
    ),
    Parameter("batch_size", 32, "int", "Samples per step."),
    Parameter(
        "lr",
        "auto",
        'float, "auto" or "find"',
        """Peak learning rate of the highest stage. "auto" is 1e-4, which suits AdamW and pretrained weights. At 1e-3,
        training on few samples is often worse than the probe that it starts from. "find" first runs a range test of up
        to 60 steps on a copy, and uses a fifth of the best rate (`find_lr`).""",
    ),
]
HEAD_LR = [
    Parameter(
        "head_lr",
        None,
        "float",
        "Peak learning rate of the head. None for `lr`, or ten times `lr` if the head is initialized at random.",
    ),
]
SCHEDULE = [
    Parameter(
        "lr_schedule",
        "linear",
        '{"linear", "slanted_triangular", "one_cycle", "cosine", "constant"}',
        """Factor of all rates from the first batch to the last: a linear or cosine decay from 1 to 0, ULMFiT's slanted
        triangle (up in the first tenth of the steps, then down) [3]_, one cycle, or a constant. An `LRScheduler` of
        skorch among `callbacks` replaces the default.""",
    ),
    Parameter(
        "layer_lr_decay",
        1.0,
        "float",
        "Divisor of the rate from each stage to the one below it: discriminative rates. ULMFiT uses 2.6.",
    ),
]
UNFREEZING = [
    Parameter(
        "unfreezing",
        "none",
        '{"none", "gradual", "chain_thaw"}',
        """Schedule of unfreezing. "none" trains all stages above the freezing boundary from the start. "gradual" trains
        the head alone, then one more stage per epoch from the top (ULMFiT). "chain_thaw" trains the head, then each
        stage alone from the lowest, then all. If `max_epochs` is less than the number of these phases, several stages
        are unfrozen at once. A stage that is not yet unfrozen behaves as a frozen one.""",
    ),
]
RECIPE = [
    Parameter("optimizer", "adamw", '{"adamw", "adam", "sgd"} or class of torch.optim', "Optimizer."),
    Parameter("weight_decay", 0.01, "float", "Weight decay. Biases and norms are not decayed."),
    Parameter(
        "l2_sp",
        0.0,
        "float",
        """Strength of the L2-SP penalty, `l2_sp / 2 * |w - w_start|²` [4]_, on the stages, which then have no weight
        decay. Values from 0.001 to 1 are worth a search.""",
    ),
]
CRITERION = [
    Parameter(
        "criterion",
        None,
        "callable or class or instance of torch.nn.Module",
        """Loss of outputs (n, n_outputs) and targets: class indices (n,), or indicators (n, n_outputs) of several
        labels. It returns one loss per row, (n,) or (n, n_outputs), such as `torch.nn.MultiMarginLoss`. A class is made
        with `reduction="none"`. None for the cross entropy. Probabilities remain the softmax or the sigmoid of the
        outputs. `save` needs `set_params(criterion=None)`.""",
    )
]
CLASSIFICATION = [
    Parameter("label_smoothing", 0.0, "float", "Share of each target that is spread evenly over the classes."),
    Parameter(
        "class_weight",
        None,
        'dict, list of dict or "balanced"',
        """Weight of each class, as in scikit-learn. Only ratios of weights matter. Samples of a class with zero weight
        are dropped. For an indicator matrix, "balanced" weighs the values 0 and 1 of each label, and a list has a dict
        of their weights per label, such as `[{0: 1, 1: 5}, {0: 1, 1: 2}]`.""",
    ),
]
CHANGES = [
    Parameter(
        "adapter",
        None,
        "peft.PeftConfig",
        """Trains adapters on the stages above the freezing boundary, and not their weights, for example
        `peft.LoraConfig(r=8, target_modules="all-linear")`. They are merged into the weights at the end.""",
    ),
    Parameter(
        "augment",
        None,
        '{"light", "strong", "word_dropout"} or torchvision.transforms.v2.Transform',
        """Augmentation, new in each epoch. "light" flips and shifts images, "strong" adds RandAugment and random
        erasing. "word_dropout" drops a tenth of the words of a text. A transform gets a tensor (3, height, width) in
        [0, 1]. The frozen stages then run in each epoch, and their outputs are not cached.""",
    ),
]
MULTITASK = [
    Parameter(
        "task_weights",
        "equal",
        '{"equal", "uncertainty"} or dict of str to float',
        """Weight of the loss of each task. "equal" is 1 for all. A dict gives weights by name, and 1 to tasks that it
        does not name. A task of weight 0 changes nothing of the others. "uncertainty" learns a variance per task [6]_:
        the loss L of a task adds `exp(-s) * L + s / 2` for its log variance s, with half of L if it is a squared error.
        s starts at 0, has no weight decay, and a rate of its own, 0.1. `task_weights_` has the weights.""",
    ),
    Parameter(
        "task_sampling",
        "proportional",
        '{"proportional", "uniform", "sqrt", "joint"} or dict of str to float',
        """Rows of an epoch. An epoch has as many draws as there are rows. "proportional" draws each row once. Otherwise
        each task has a share of the draws: an equal one ("uniform"), one that is proportional to the root of its known
        targets ("sqrt"), or one of a dict, of which only ratios matter. A draw for a task takes the next row of an
        endless sequence of permutations of the rows whose target of this task is known, which the next epoch
        continues. "joint" puts the same number of rows of every task into each batch, one or more. All known targets of
        a drawn row are learned.""",
    ),
    Parameter(
        "aggregator",
        None,
        "torchjd.aggregation.Aggregator",
        """Aggregator of TorchJD, such as `torchjd.aggregation.UPGrad()`, that combines the gradients of the tasks in
        the stages that they share. Heads have the gradient of their own loss. None adds the gradients up. `Sum` of
        TorchJD does the same, and `Mean` divides them by the number of tasks. Learned weights, float16 and frozen
        stages alone are refused. With a single task it changes nothing. It needs the extra torchjd,
        `pip install "torchjd[quadprog-projector]>=0.18"`, and `save` needs `set_params(aggregator=None)`.""",
    ),
]
TASKS = Parameter(
    "tasks",
    "auto",
    '"auto" or dict of str to str',
    """Kind of some tasks by column of y: "multiclass", "continuous" or "multilabel-indicator". The others are inferred
    from their known values, as `sklearn.utils.multiclass.type_of_target` does it. In a search this is done in each
    fold. Ratings from 1 to 5 of which one is 4.5 are numbers in folds that train on it and classes in others, so give
    `tasks={"stars": "continuous"}` for numbers.""",
)
BY_TASK = [  # how parameters of one task are given for several
    HEAD[0].replace(
        type='"linear" or dict of str to Head',
        description=""""linear" makes new heads. Of a dict, such as the `heads_` of a fitted estimator, the heads of its
        tasks are continued, if classes and features agree. The heads of other tasks are new.""",
    ),
    CRITERION[0].replace(
        type="dict of str to callable or class or instance of torch.nn.Module",
        description="""Loss of some tasks by name, as `FineTuneClassifier` and `FineTuneRegressor` take it. None for the
        cross entropy of classes and the squared error of standardized numbers. `save` needs
        `set_params(criterion=None)`.""",
    ),
    CLASSIFICATION[0].replace(
        description="Share of each target that is spread evenly over the classes, in all tasks with classes."
    ),
    CLASSIFICATION[1].replace(
        type='"balanced" or dict of str to dict, list of dict or "balanced"',
        description="""Weight of each class. "balanced" holds for all tasks with classes. A dict has the weights of some
        tasks by name, as `FineTuneClassifier` takes them. Only ratios of weights within a task matter.""",
    ),
]
VALIDATION = [
    Parameter(
        "early_stopping",
        False,
        "bool",
        """Whether to hold out a validation split, stop when its loss no longer falls, and restore the weights of the
        best epoch, or those before training if each epoch was worse. If X_val is passed to `fit`, it takes the place of
        the split.""",
    ),
    Parameter(
        "validation_fraction", 0.1, "float", "Share of the samples in the validation split, stratified by class."
    ),
    Parameter(
        "patience",
        3,
        "int",
        "Epochs without improvement before stopping, counted once all stages are unfrozen.",
    ),
]
END = [
    engine.DEVICE,
    engine.PRECISION.replace(
        description="""Precision of the stages. "auto" is bfloat16 if the processor or the GPU supports it natively,
        else float32. Trained weights are float32 in any case."""
    ),
    engine.CACHE.replace(
        description="""Cache of the outputs of frozen stages, by content of the sample, shared by epochs, folds,
        candidates and clones. "memory" lasts as long as the process. A folder is shared by the processes of a machine.
        A URL such as "s3://bucket/run" is shared by machines, and `["/local/folder", "s3://bucket/run"]` keeps a copy
        here. `set_config` sets their size, `cache_info` shows what they hold.
        None runs the frozen stages in each epoch."""
    ),
    Parameter(
        "callbacks",
        None,
        "list of skorch callbacks",
        """Callbacks of skorch (`EpochScoring`, `GradientNormClipping` and others; a score sees classes as their indices
        in `classes_`, and is of validation data unless `on_train=True`), `EMA`, `SWA`, `WiSEFT`, `MicroBatches`,
        `Mixup`, `Checkpoint`. Callbacks of scikit-learn (`set_callbacks`) work as well. Parameters of a
        named one, such as `("es", EarlyStopping())`, are set by `callbacks__es__patience`. `fit` trains with copies,
        which are in `net_.callbacks_`.""",
    ),
    Parameter(
        "warm_start", False, "bool", "Whether the next `fit` continues from the backbone and the head of the last one."
    ),
    Parameter(
        "random_state",
        None,
        "int, RandomState or None",
        "Seed of order, dropout and new weights. Equal seeds give equal results on a CPU.",
    ),
    engine.VERBOSE.replace(
        description="1 prints one line per epoch. `sklearn.callback.ProgressBar` shows the progress of a whole search."
    ),
]
CALLBACKS_WITHOUT_SCORES = Parameter(
    "callbacks",
    None,
    "list of skorch callbacks",
    """Callbacks of skorch (`EarlyStopping("train_loss")`, `GradientNormClipping` and others), `EMA`, `SWA`, `WiSEFT`,
    `MicroBatches`, `Checkpoint`. They may monitor the columns of `history_`, some of which need validation data.
    `EpochScoring` and `BatchScoring` by the name of a metric are refused. Callbacks of scikit-learn (`set_callbacks`)
    work as well. Parameters of a named one, such as `("es", EarlyStopping())`, are set by `callbacks__es__patience`.
    `fit` trains with copies, which are in `net_.callbacks_`.""",
)
CALLBACKS_BY_TASK = Parameter(
    "callbacks",
    None,
    "list of skorch callbacks",
    """Callbacks of skorch (`EarlyStopping("valid_loss_topic")`, `GradientNormClipping` and others), `EMA`, `SWA`,
    `WiSEFT`, `MicroBatches`, `Mixup`, `Checkpoint`. They may monitor the columns of `history_` that each of several
    tasks has, such as "train_loss_topic", and of validation data "valid_loss_topic" and "valid_acc_topic". A single
    task has "train_loss", "valid_loss" and "valid_acc". `EpochScoring` and
    `BatchScoring` by the name of a metric score one task, and are refused with several. Callbacks of scikit-learn
    (`set_callbacks`) work as well. Parameters of a named one, such as `("es", EarlyStopping())`, are set by
    `callbacks__es__patience`. `fit` trains with copies, which are in `net_.callbacks_`.""",
)
