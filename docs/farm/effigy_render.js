// SPDX-License-Identifier: GPL-3.0-or-later
// A Flamenco 3 job type: put this file into the `scripts` folder beside flamenco-manager and restart it.
// Workers need Blender with the Effigy extension, and a backend of their own machine; see docs/farm.md.

const JOB_TYPE = {
    label: "Effigy Render",
    description: "Effigy avatars, with the EFFIGY engine or composited with Cycles or EEVEE. A task that is run again renders only what is missing.",
    settings: [
        { key: "frames", type: "string", required: true,
          eval: "f'{C.scene.frame_start}-{C.scene.frame_end}'",
          evalInfo: { showLinkButton: true, description: "Scene frame range" },
          description: "Frames to render, such as '47', '1-30' or '3, 5-10'" },
        { key: "chunk_size", type: "int32", default: 8, propargs: { min: 1 }, visible: "submission",
          description: "Frames in one task. Blender and its link to the backend start once a task" },
        { key: "render_output_path", type: "string", subtype: "file_path", required: true,
          eval: "bpy.path.abspath(C.scene.render.filepath)",
          description: "Where pictures go, as in Output Properties, such as /shots/010/######" },
        { key: "avatars", type: "string", visible: "web",
          eval: "', '.join(sorted({f'{o.data.effigy.avatar_id}={o.data.effigy.digest}' for o in C.scene.objects if o.type == 'ARMATURE' and o.data.effigy.avatar_id and o.data.effigy.digest}))",
          description: "The avatars by the digests of their content, NAME=DIGEST; a worker with other versions refuses" },
        { key: "backend", type: "string", default: "", visible: "submission",
          description: "Address of the Effigy backend; empty: each worker's own EFFIGY_ADDRESS" },
        { key: "video", type: "bool", required: true, default: true, visible: "submission",
          description: "Join the frames to an MP4 beside them at the end (not for EXR)" },
        { key: "fps", type: "float", eval: "C.scene.render.fps / C.scene.render.fps_base", visible: "hidden" },
        { key: "image_file_extension", type: "string", required: true,
          eval: "C.scene.render.file_extension", visible: "hidden" },
        { key: "scene", type: "string", required: true, eval: "C.scene.name", visible: "web",
          description: "The scene to render" },
        { key: "blendfile", type: "string", required: true, visible: "web",
          description: "The file to render" },
    ],
};

function compileJob(job) {
    const settings = job.settings;
    const renderTasks = [];
    for (const chunk of frameChunker(settings.frames, settings.chunk_size)) {
        const task = author.Task(`render-${chunk}`, "blender");
        task.addCommand(blender(settings, ["--frames", chunk, "--missing"]));
        renderTasks.push(task);
        job.addTask(task);
    }
    // Fails, and lists them, where any frame is missing or not whole.
    const check = author.Task("check", "blender");
    check.addCommand(blender(settings, ["--frames", settings.frames, "--check"]));
    for (const task of renderTasks) {
        check.addDependency(task);
    }
    job.addTask(check);
    if (settings.video && settings.image_file_extension.toLowerCase() === ".exr") {
        alert("Effigy: no film of EXR frames, which hold linear light");
    } else if (settings.video) {
        const film = author.Task("film", "ffmpeg");
        film.addCommand(video(settings));
        film.addDependency(check);
        job.addTask(film);
    }
}

function blender(settings, options) {
    const given = ["--command", "effigy_render", "--output", settings.render_output_path];
    if (settings.scene) {
        given.push("--scene", settings.scene);
    }
    if (settings.backend) {
        given.push("--address", settings.backend);
    }
    for (const avatar of (settings.avatars || "").split(",")) {
        if (avatar.trim()) {
            given.push("--pin", avatar.trim());
        }
    }
    return author.Command("blender-render", {
        exe: "{blender}",
        exeArgs: "{blenderArgs}",
        argsBefore: [],
        blendfile: settings.blendfile,
        args: given.concat(options),
    });
}

function video(settings) {
    const folder = path.dirname(settings.render_output_path);
    let name = path.basename(settings.render_output_path);
    if (name.indexOf("#") < 0) {
        name += "####"; // as Blender does
    }
    const frames = settings.frames.replace(/\s/g, "");
    return author.Command("frames-to-video", {
        exe: "ffmpeg",
        fps: settings.fps,
        inputGlob: path.join(folder, name.replace(/#/g, "?") + settings.image_file_extension),
        outputFile: path.join(folder, `${path.stem(settings.blendfile)}-${frames}.mp4`),
        argsBefore: [],
        args: ["-c:v", "h264", "-crf", "20", "-g", "18", "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2",
               "-pix_fmt", "yuv420p", "-y"],
    });
}
