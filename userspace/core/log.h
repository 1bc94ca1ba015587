/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operator's log: one line per message on standard error. Audit records are the product and
 * never go through here. Only the processes' main loops and command-line tools log above debug.
 */
#ifndef DBFENCE_CORE_LOG_H
#define DBFENCE_CORE_LOG_H

enum log_level { LOG_LEVEL_ERR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG, LOG_LEVEL_MAX };

/* Lines above @level are dropped; @who is put before each line ("keeper"). Both may be set at any
 * time. */
void log_set_level(enum log_level level);
void log_set_who(const char *who);
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_err(...) log_line(LOG_LEVEL_ERR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
