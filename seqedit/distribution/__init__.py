"""What concerns seqedit as an installed package: extras, plugins of others, import names, moved modules."""
