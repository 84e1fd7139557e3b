"""studies NAME: one stage that runs any study of `dcpipe.studies`."""
