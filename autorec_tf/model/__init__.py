"""What AutoRec is made of: mini-batches, the two engines, the optimisers, and a trained model ready
to predict. Rows and columns, never files.

May import `config`, `data.ratings` and `system`.
"""
