"""NPUs: the doctor's checks and the bring-up of a first machine."""
