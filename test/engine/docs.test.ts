import { strict as assert } from 'node:assert'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { parameters } from '../../engine/parameters.ts'
import { writeEngineDocs } from '../../scripts/engine-docs.ts'

const page = readFileSync(new URL('../../docs/engine.md', import.meta.url), 'utf8')

test('engine.md is what the engine says; else run: npm run docs:engine', async () => {
  assert.equal(page, await writeEngineDocs())
})

test('engine.md has a row for every parameter, with the range of those that have one', () => {
  for (const name of Object.keys(parameters)) assert.match(page, new RegExp(`^\\| \`${name}\` \\|`, 'm'))
  assert.match(page, /^\| `temperature` \| yes \| yes \| a number from 0 to 2 \|/m)
  assert.match(page, /^\| `top_logprobs` \| {2}\| yes \| a whole number from 0 to 20 \|/m)
})

test('engine.md tells what a grammar keeps to from what it refuses', () => {
  const row = (name: string) => new RegExp(`^\\| ${name} \\|.*`, 'm').exec(page)?.[0] ?? ''
  assert.match(row('kept to'), /`minItems`.*`maxLength`/)
  assert.match(row('remarks, read over'), /`description`/)
  assert.match(row('refused, as is any other'), /`pattern`.*`minimum`.*`allOf`/)
})
