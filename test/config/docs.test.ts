import { strict as assert } from 'node:assert'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { exampleFile, writeConfigDocs } from '../../scripts/config-docs.ts'
import { writeErrorDocs } from '../../scripts/error-docs.ts'
import { knobs } from '../../src/config/knobs.ts'
import { loadConfig } from '../../src/config/load.ts'

const read = (name: string) => readFileSync(new URL(`../../docs/${name}`, import.meta.url), 'utf8')

describe('the generated pages', () => {
  it('configuration.md is what the schema says; else run: npm run docs:config', () => {
    assert.equal(read('configuration.md'), writeConfigDocs())
  })

  it('errors.md is what the table says; else run: npm run docs:errors', () => {
    assert.equal(read('errors.md'), writeErrorDocs())
  })

  it('every knob has a description and a variable of its own', () => {
    for (const { path, rule } of knobs) assert.ok(rule.description, path.join('.'))
    assert.equal(new Set(knobs.map(({ variable }) => variable)).size, knobs.length)
  })

  it('the example holds every setting, is valid, and gives the defaults', () => {
    const folder = mkdtempSync(join(tmpdir(), 'autoglm-docs-'))
    writeFileSync(join(folder, 'autoglm.yaml'), exampleFile())
    const example = loadConfig({ env: { VLLM_KEY: 'k', RABBITMQ_PASSWORD: 'p' }, flags: {}, cwd: folder })
    const defaults = loadConfig({ env: {}, flags: {}, cwd: folder, file: '/dev/null' })
    rmSync(folder, { recursive: true })
    assert.deepEqual({ ...example.server, hosts: [], corsOrigins: [] }, defaults.server)
    assert.equal(example.auth.issuers[0]?.leewayMs, 30_000)
    assert.deepEqual(example.health, defaults.health)
    assert.equal(example.ingress[0]?.prefetch, 64)
    assert.equal(example.upstreams[0]?.name, 'vllm-a')
    for (const { path } of knobs) assert.match(exampleFile(), new RegExp(`^ *${path.at(-1)}:`, 'm'))
  })
})
