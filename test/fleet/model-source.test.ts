import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import { listParts, parseModelSource } from '../../src/fleet/model-source.ts'

describe('a source', () => {
  it('is tiny, a path, or a file of a hub', () => {
    assert.deepEqual(parseModelSource('tiny'), { kind: 'bundled' })
    assert.deepEqual(parseModelSource('./tiny'), { kind: 'path', path: './tiny' })
    assert.deepEqual(parseModelSource('hf:me/re.po:a-b.gguf'), {
      kind: 'hub',
      hub: { user: 'me', repo: 're.po', revision: 'main', file: 'a-b.gguf' },
    })
    assert.deepEqual(parseModelSource('hf:me/repo@refs/pr/1:dir/a.gguf'), {
      kind: 'hub',
      hub: { user: 'me', repo: 'repo', revision: 'refs/pr/1', file: 'dir/a.gguf' },
    })
  })

  for (const source of ['hf:', 'hf:me', 'hf:me/repo', 'hf:me/repo:', 'hf:me:a', 'hf:me/repo:../../a', 'hf:../b:a', 'hf:a/b:/etc/x', 'hf:a/b@../..:c', 'hf:a/b:c?d', 'hf:a/b:c\nd']) {
    it(`is refused when it is ${JSON.stringify(source)}`, () => {
      assert.throws(() => parseModelSource(source), { name: 'SetupError', message: /is not a file of a hub; write hf:user\/repo/ })
    })
  } // prettier-ignore

  it('in several files is named by the first', () => {
    assert.deepEqual(listParts('a-00001-of-00002.gguf'), ['a-00001-of-00002.gguf', 'a-00002-of-00002.gguf'])
    assert.deepEqual(listParts('a.gguf'), ['a.gguf'])
  })
})
