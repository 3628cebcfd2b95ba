"""The arrays that all stages share: images, and the folds that they are dealt to."""
