"""What each augmentation of labelled images does; their names are in sctseg7t.train.scans.augmentation."""
