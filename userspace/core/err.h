/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one error convention: functions return 0 or a negative errno; where a person will read why,
 * they also fill a struct err with one plain sentence that says what to do. Library code never
 * prints.
 */
#ifndef DBFENCE_CORE_ERR_H
#define DBFENCE_CORE_ERR_H

struct err {
	char text[1024];
};

/* Write a sentence into @err (which may be NULL) and return @code, a negative errno, for `return
 * err_set(…)`. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
