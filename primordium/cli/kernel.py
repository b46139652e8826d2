"""``primordium kernel``: the fused kernels that are generated for a layer."""

from typing import Annotated

import typer

from primordium.cli.arguments import Json
from primordium.cli.output import emit


def show(
    what: Annotated[str, typer.Argument(metavar="NAME", help="A method, a run, a graph file or text.")],
    id: Annotated[str | None, typer.Argument(metavar="[ID]", help="A candidate (default: the best).")] = None,
    direction: Annotated[str, typer.Option(help="forward, backward or both.")] = "both",
    shape: Annotated[str, typer.Option(help="Of the input, [B, C, *S].")] = "128,256,56,56",
    dtype: Annotated[str, typer.Option(help="Of the input: fp32, fp16 or bf16.")] = "bf16",
    layout: Annotated[str, typer.Option(help="nchw or channels-last.")] = "nchw",
    evaluation: Annotated[bool, typer.Option("--eval", help="Evaluation in place of training.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="The fusion plan, without the source.")] = False,
    resources: Annotated[
        bool, typer.Option("--resources", help="Compile for sm_90; registers, spills, vector width.")
    ] = False,
    json: Json = False,
) -> None:
    """Show a layer's fusion plan and its Triton source.

    The plan says what each pass over memory reads, reduces and writes, in units of E, the bytes of the input.
    Nothing is run, and no GPU is needed.
    """
    from primordium.cli.kernel_page import Request, kernel_page
    from primordium.cli.subject import find_subject

    request = Request.parse(direction, shape, dtype, layout)
    request = request._replace(evaluation=evaluation, source=not plan, resources=resources)
    emit(kernel_page(find_subject(what, id), request), json)
