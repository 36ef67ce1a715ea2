"""Tests of p2pxfer."""
