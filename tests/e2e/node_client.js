// SPDX-License-Identifier: Apache-2.0
// A node-postgres client for the differential test: simple, parameterised and named statements, errors at
// parse, bind and execution, and a portal fetched in pieces. Connection by the PG* variables; prints one
// JSON object per answered statement: {"pid", "text", "tag", "rows"}, "tag" null where it was fetched in pieces.
// Usage: node node_client.js ROUNDS
'use strict';
const { Client } = require('pg');

async function main() {
	const ssl = process.env.PGSSLMODE === 'require' ? { rejectUnauthorized: false } : false;
	const client = new Client({ ssl });
	await client.connect();
	const pid = client.processID;

	async function ask(query, inPieces) {
		const text = typeof query === 'string' ? query : query.text;
		const result = await client.query(query);
		const counted = /^(SELECT|UPDATE|DELETE|FETCH|COPY)$/.test(result.command);
		// For other commands the driver keeps only the tag's first word.
		let tag = counted ? `${result.command} ${result.rowCount}` : result.command;
		if (/^(CREATE|DROP|ALTER|TRUNCATE)$/.test(result.command)) return;
		if (result.command === 'INSERT') tag = `INSERT 0 ${result.rowCount}`;
		console.log(JSON.stringify({ pid, text, tag: inPieces ? null : tag, rows: result.rows.length }));
	}

	async function refused(query, sqlstate) {
		try {
			await client.query(query);
		} catch (error) {
			if (error.code === sqlstate) return;
			throw error;
		}
		throw new Error(`${query.text || query} was expected to fail with ${sqlstate}`);
	}

	await ask('CREATE TEMP TABLE node_t (id int PRIMARY KEY, v text)');
	for (let i = 0; i < Number(process.argv[2]); i++) {
		await ask({ text: 'INSERT INTO node_t VALUES ($1, $2)', values: [i, `v${i}`] });
		await ask({ name: 'by-id', text: 'SELECT v FROM node_t WHERE id = $1', values: [i] });
		await ask({ name: 'by-id', text: 'SELECT v FROM node_t WHERE id = $1', values: [i + 1] });
		await ask('SELECT id, v FROM node_t ORDER BY id');
		await ask({ text: 'SELECT generate_series(1, 35)', rows: 10 }, true);
		await refused({ text: 'SELECT $1::int AS bind_error', values: ['abc'] }, '22P02');
		await refused({ text: 'SELECT 1 / $1::int AS run_error', values: [0] }, '22012');
		await refused({ text: 'SELEKT $1::int', values: [0] }, '42601');
		await refused('SELECT * FROM node_nowhere', '42P01');
		await ask('BEGIN');
		await refused({ text: 'INSERT INTO node_t VALUES ($1, NULL)', values: [i] }, '23505');
		await refused('SELECT 1 AS in_aborted', '25P02');
		await ask('ROLLBACK');
	}
	await client.end();
}

main().catch((error) => {
	console.error(error);
	process.exit(1);
});
