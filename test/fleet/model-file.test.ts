import { strict as assert } from 'node:assert'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { resolveModelFile } from '../../src/fleet/model-file.ts'
import { makeGguf } from '../helpers/gguf.ts'

let folder: string
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'autoglm-model-'))
})
after(() => rmSync(folder, { recursive: true }))

describe('a model file of this machine', () => {
  const resolveFile = (path: string) => resolveModelFile(path, { dataDir: folder })
  const put = (name: string, content: string | Buffer) => {
    const path = join(folder, name)
    writeFileSync(path, content)
    return path
  }

  it('is taken when it is whole', async () => {
    const path = put('whole.gguf', makeGguf())
    const found = await resolveFile(path)
    assert.deepEqual(found, { path, bytes: makeGguf().length, kind: 'path', version: found.version })
  })
  it('is the bundled one for tiny', async () => {
    const { path, kind } = await resolveFile('tiny')
    assert.equal(kind, 'bundled')
    assert.match(path, /models\/tiny\/tiny\.gguf$/)
  })

  const whole = makeGguf()
  const refusals: readonly [name: string, content: string | Buffer, message: RegExp][] = [
    ['empty', '', /^\/.*\/empty is empty; fetch it again$/],
    ['pointer', 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n', /is a pointer of Git LFS and not the model itself; fetch it with: git lfs pull$/],
    ['page', '<!DOCTYPE html><html></html>', /is a web page and not a model; fetch the file itself$/],
    ['tensors', '{"__metadata__":{}}', /is not a GGUF file that can be read: it does not begin with "GGUF"; convert the model to GGUF/],
    ['old', Buffer.from('GGUF\u0001\0\0\0aaaaaaaaaaaaaaaa'), /its version is 1, and 2 and 3 can be read/],
    ['head', whole.subarray(0, 60), /\/head is cut off after 60 bytes; fetch it again$/],
    ['tail', whole.subarray(0, whole.length - 1), /\/tail is cut off after \d+ bytes; fetch it again$/],
    ['garbage', Buffer.concat([Buffer.from('GGUF\u0003\0\0\0'), Buffer.alloc(64, 0xff)]), /its number of tensors is impossible/],
  ] // prettier-ignore
  for (const [name, content, message] of refusals) {
    it(`is refused when it is ${name}`, async () => {
      await assert.rejects(resolveFile(put(name, content)), { name: 'SetupError', message })
    })
  }
  it('is refused when it is not there, or a folder', async () => {
    await assert.rejects(resolveFile(join(folder, 'no.gguf')), {
      name: 'SetupError',
      message: `${folder}/no.gguf is not there; give the path of a GGUF file, tiny for the bundled model, or hf:user/repo:file.gguf`,
    })
    await assert.rejects(resolveFile(folder), { name: 'SetupError', message: /is a folder; name the GGUF file in it$/ })
  }) // prettier-ignore
})
