"""What every picture of a run shows, in words for a reader who knows no paper."""

_CODE = (
    "A code is the list of numbers that the model turns into a picture; for a model that draws in "
    "steps, those of all its steps."
)
_STEPS = "Columns are steps t. Rectangles are the attention windows, their line as wide as their σ."
FIGURES = {
    "samples.png": ("Samples", "Drawn from the prior with one fixed seed; none is left out."),
    "generation.gif": ("Generation, animated", "The canvas after each step."),
    "generation.png": (
        "Generation, step by step",
        f"Each row is one sample. {_STEPS} A darker edge lies beyond the margin.",
    ),
    "reconstructions.png": ("Reconstructions", "Images that were not trained on, and below each "
                            "what the model made of it."),
    "reconstruction.png": ("Reconstruction, step by step", _STEPS),
    "kernels.png": ("First kernels", "A column for each kernel, a row for each channel that it "
                    "reads; grey is 0, white the largest weight up, black down."),
    "glimpses.gif": ("Glimpses, animated", "Where the model looks at each step, test images."),
    "glimpses.png": ("Glimpses, step by step", f"Each row is one test image. {_STEPS}"),
    "samples_drawn.png": (
        "Samples as means and as draws",
        "Above, the brightness that the model gives each pixel (its mean, what all other pictures "
        "show). Below, the same pictures with each pixel drawn as black or white with that chance, "
        "which is all that the model says of it; in colour, each of the three colours apart.",
    ),
    "steps.png": (
        "Generation at chosen steps",
        "Each row is one sample, each column the canvas after the step t that is named above it. "
        "Rectangles are the attention windows, their line as wide as their σ; a darker edge lies "
        "beyond the margin.",
    ),
    "beside.png": (
        "Two runs, step by step",
        "Samples of two models, one block each; columns are steps t, from left to right. Below "
        "each block, over the same steps: the share of pixels whose brightness changed by more "
        "than a tenth (solid, blue), and the mean uncertainty of a pixel in bits (dashed, orange; "
        "0 is surely black or white, 1 is a coin). A model without attention works on all pixels "
        "at every step, one with attention on a part of them.",
    ),
    "race.png": (
        "Several runs, validation by validation",
        "One number of each of several runs, less being better, after so many training examples "
        "(left) and after so many minutes of training (right), each over the whole validation "
        "set. The worst tenth of the points may lie above the edge. Minutes are those of the "
        "machine that each run had.",
    ),
    "effect_of_steps.png": (
        "What the code of each step decides",
        "Each row varies the code of one step t along one direction, from −3 to 3 standard "
        "deviations, and holds those of all other steps. Left, the finished pictures; at 0 it is "
        "the same in all rows. Right, how they differ from it: orange is brighter, blue darker, "
        "in full colour where the change is largest. A row without colour is a step that decides "
        "little.",
    ),
    "epochs.png": (
        "Samples after some epochs",
        "Each column is one code, each row what the model made of it after so many passes over "
        "the training images.",
    ),
    "interpolation.png": (
        "From one code to another",
        f"{_CODE} Each pair of rows goes from the picture at the left to the one at the right: "
        "above in a straight line, below along an arc (which keeps codes as long as those that "
        "the model knows).",
    ),
    "walk.gif": (
        "A walk through ten codes, animated",
        f"{_CODE} 100 even steps in a straight line lead from each of ten codes to the next.",
    ),
    "walk.png": (
        "A walk through ten codes",
        "Every tenth picture of the walk: a row for each of its nine parts, which ends with the "
        "picture that the next one begins with.",
    ),
    "latent_grid.png": (
        "All codes of two numbers",
        "The picture for each pair of numbers. Across and up, the numbers grow so that each row "
        "and column stands for an equal share of what the model expects (quantiles of the normal "
        "distribution).",
    ),
    "latent_scatter.png": (
        "Where images lie among the codes",
        "One dot for each image that was not trained on, at the two numbers that the model "
        "encodes it with (the mean); colour and shape are its class, which the model was never "
        "told. Circles hold half and 95 % of what the model expects.",
    ),
    "zoom.png": (
        "The window as a zoom",
        "Each row is one window on the same image (green: where it lies, its line as wide as the "
        "blur σ of its filters); the patch of N × N numbers that is read through it; and the patch "
        "written back through the same window. A small window is sharp and sees little, a large "
        "one sees all and blurs.",
    ),
    "filters.png": (
        "Filters of the windows",
        "The windows of one image, a column for each step t. Dots are the centres of the N × N "
        "filters; those outside the image are not shown. Below the image, how much each of the N "
        "filters across (F_X, a row each) weighs "
        "each column of pixels; to its right, the same for the filters down (F_Y, a column each). "
        "White is the largest weight of a filter.",
    ),
}  # fmt: skip
"""Name of a picture below ``pictures/`` → title and caption, in the order of the page."""
BESIDE = ("samples.png", "generation.gif", "glimpses.gif", "walk.gif")
"""Pictures that stand in one row with others."""
WIDE = {"beside.png", "race.png", "effect_of_steps.png", "interpolation.png", "walk.png",
        "steps.png", "filters.png", "samples_drawn.png", "epochs.png"}  # fmt: skip
"""Pictures that a small screen scrolls sideways rather than shrinks."""
