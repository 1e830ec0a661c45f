// Package alibabasdk holds the fakes of Alibaba Cloud's services against Alibaba Cloud's own SDK, which is no part of the program.
package alibabasdk
