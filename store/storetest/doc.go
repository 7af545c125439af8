// Package storetest tests stores, and lends them to the tests of others.
//
// Run is a suite that every Store must pass; Memory is a store in maps that
// passes it. Disk is a file system that can lose power; Volatile is one for
// processes that are killed.
package storetest
