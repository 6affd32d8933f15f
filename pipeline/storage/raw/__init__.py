"""Raw data as its readers open it: files of a folder on this machine, or objects of a bucket."""
