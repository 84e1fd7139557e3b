"""studies NAME: the stage that runs any study of `dcpipe.studies`."""
