"""The shapes world: scenes of one or two flat shapes, and everything that is known for sure about
them.

`grammar` says what a scene is and how it is put in words, `edits` what an instruction does to it,
`draws` random ones, `towards` how one scene differs from another and what mends it, `render` draws
it, `oracle` reads a picture back. The oracle and the renderer are for training and measuring; a run
never imports them.
To add a shape: one name in `grammar.SHAPES`, one outline in `render.OUTLINES`; then every model is
trained anew.
"""
